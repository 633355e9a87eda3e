"""One self-contained HTML page from result rows: no network, readable on a phone, usable by keyboard.

Rows are what ``eval --json`` prints, with ``domain`` and, where known, ``data``, ``seconds``, ``calls``, ``p``. Every
table sorts by its heads and filters by text; each domain can show some queries before and after.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rerank_core.domain import Domain
from rerank_core.errors import InputError
from rerank_core.experiment import FIRST, ORACLE
from rerank_core.rendering import Picture, Rendering
from rerank_core.types import Candidate, Dataset, Ranking, Request

ALPHA = 0.05


@dataclass(frozen=True)
class Example:
    """One query with candidates before and after, for the drill-down."""

    query: str
    lists: Mapping[str, Sequence[tuple[str, float, str]]]  # system -> (text, gain, reason), best first


@dataclass(frozen=True)
class Section:
    """One domain's part of the page."""

    domain: str
    title: str
    rows: Sequence[Mapping[str, Any]]
    examples: Sequence[Example] = ()
    plots: Sequence[str] = ()  # SVG
    note: str = ""


@dataclass(frozen=True)
class Page:
    """The whole report."""

    title: str
    sections: Sequence[Section]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    intro: str = ""
    matrix_measure: str = "GainRecovered"


def examples_of(
    domain: Domain[Any, Any],
    dataset: Dataset[Any, Any],
    rankings: Mapping[str, Sequence[Ranking]],
    *,
    n: int = 5,
    top: int = 5,
) -> list[Example]:
    """Pick requests that show the most: the largest change of the top gain first, harm included."""
    rendering = domain.rendering
    names = [s for s in rankings if s != ORACLE]
    by_id = {s: {r.id: r for r in rankings[s]} for s in names}

    def change(i: str) -> float:
        gains = dataset.gold.get(i, {})
        tops = [gains.get(by_id[s][i].ids[0], 0.0) if by_id[s][i].ids else 0.0 for s in names]
        return max(tops) - min(tops)

    chosen = sorted((r for r in dataset.requests if r.candidates), key=lambda r: -change(r.id))[:n]
    out = []
    for request in chosen:
        gains = dataset.gold.get(request.id, {})
        text = {c.id: _text(rendering, c) for c in request.candidates}
        lists = {
            s: [(text[x.id], gains.get(x.id, 0.0), x.reason or "") for x in by_id[s][request.id].items[:top]]
            for s in names
        }
        out.append(Example(_query_text(rendering, request), lists))
    return out


def _query_text(rendering: Rendering[Any, Any] | None, request: Request[Any, Any]) -> str:
    return _rendered(
        request.id, lambda: rendering.query(request.query) if rendering is not None else str(request.query)
    )


def _text(rendering: Rendering[Any, Any] | None, candidate: Candidate[Any]) -> str:
    return _rendered(
        candidate.id, lambda: rendering.candidate(candidate) if rendering is not None else str(candidate.content)
    )


def _rendered(name: str, render: Callable[[], str | Picture]) -> str:
    """Return what a reader sees; what cannot be shown (a photo known by its descriptor only) goes by its id."""
    try:
        return _short(render())
    except InputError:
        return _short(f"[{name}]")


def _short(content: str | Picture, limit: int = 300) -> str:
    text = content if isinstance(content, str) else f"[picture] {content.caption}"
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def render(page: Page) -> str:
    """Return the page as HTML."""
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width, initial-scale=1">',
        f"<title>{_e(page.title)}</title><style>{_CSS}</style></head><body>",
        '<a class=skip href="#main">Skip to results</a>',
        f"<header><h1>{_e(page.title)}</h1>{_paragraph(page.intro)}{_nav(page)}</header><main id=main>",
        _filter(),
        _matrix(page),
        *(_section(s) for s in page.sections),
        _provenance(page.provenance),
        f"</main><script>{_JS}</script></body></html>",
    ]
    return "\n".join(p for p in parts if p)


def _nav(page: Page) -> str:
    links = " ".join(f'<a href="#d-{_e(s.domain)}">{_e(s.domain)}</a>' for s in page.sections)
    return f"<nav aria-label=Domains>{links}</nav>"


def _filter() -> str:
    return (
        "<p><label for=filter>Show rows with </label>"
        '<input id=filter type=search placeholder="text" autocomplete=off> '
        "<span id=shown role=status aria-live=polite></span></p>"
    )


def _section(section: Section) -> str:
    body = [f'<section id="d-{_e(section.domain)}"><h2>{_e(section.title)}</h2>', _paragraph(section.note)]
    by_data: dict[str, list[Mapping[str, Any]]] = {}
    for row in section.rows:
        by_data.setdefault(str(row.get("data", "")), []).append(row)
    for data, rows in by_data.items():
        body.append(_leaderboard(rows, data))
    body.extend(f"<figure>{svg}</figure>" for svg in section.plots)
    body.append(_examples(section.examples))
    return "\n".join([*body, "</section>"])


def _leaderboard(rows: Sequence[Mapping[str, Any]], data: str) -> str:
    measures = list(dict.fromkeys(r["measure"] for r in rows))
    systems = list(dict.fromkeys(r["system"] for r in rows))
    cell = {(r["system"], r["measure"]): r for r in rows}
    n = max((r["n"] for r in rows), default=0)
    head = "".join(_th(m) for m in ["system", *measures, "seconds", "calls"])
    lines = []
    for system in systems:
        mine = [cell[system, m] for m in measures if (system, m) in cell]
        cells = "".join(_td(cell.get((system, m)), rows) for m in measures)
        cost = "".join(f"<td data-v={_num(mine[0].get(k))}>{_plain(mine[0].get(k))}</td>" for k in ("seconds", "calls"))
        kind = " class=base" if system in (FIRST, ORACLE) else ""
        lines.append(f"<tr{kind}><th scope=row>{_e(system)}</th>{cells}{cost}</tr>")
    caption = f"{_e(data) + ': ' if data else ''}{n} queries; 95 % bootstrap interval; * p &lt; {ALPHA} against the first stage"
    return (
        f"<div class=scroll tabindex=0 role=region aria-label='{_e(data) or 'results'}'><table class=sortable>"
        f"<caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _th(name: str) -> str:
    return f"<th scope=col aria-sort=none><button type=button>{_e(name)}</button></th>"


def _td(row: Mapping[str, Any] | None, rows: Sequence[Mapping[str, Any]]) -> str:
    if row is None or row["value"] is None:
        return "<td data-v=''>–</td>"
    values = [r["value"] for r in rows if r["measure"] == row["measure"] and r["value"] is not None]
    low, high = min(0.0, *values), max(values)
    share = 0.0 if high <= low else (row["value"] - low) / (high - low)
    star = ""
    if row.get("p") is not None and row["p"] < ALPHA:
        star = f'<span title="p = {row["p"]:.4f}">*</span>'
    interval = ""
    if row.get("ci_low") is not None:
        interval = f"<small>[{_plain(row['ci_low'])}, {_plain(row['ci_high'])}]</small>"
    return (
        f"<td data-v={row['value']:.9g} style='--w:{100 * share:.1f}%'>"
        f"<b>{_plain(row['value'])}{star}</b> {interval}</td>"
    )


def _matrix(page: Page) -> str:
    """Systems x domains, one number a cell: what share of the possible gain a system recovers."""
    cells: dict[tuple[str, str], Mapping[str, Any]] = {}
    for section in page.sections:
        for row in section.rows:
            if row["measure"] == page.matrix_measure and row["system"] not in (FIRST, ORACLE):
                cells.setdefault((row["system"], section.domain), row)
    systems = sorted({s for s, _ in cells})
    domains = [s.domain for s in page.sections if any(d == s.domain for _, d in cells)]
    if len(domains) < 2:
        return ""
    head = "".join(_th(x) for x in ["system", *domains])
    lines = []
    for s in systems:
        tds = "".join(_td(cells.get((s, d)), [r for (_, dd), r in cells.items() if dd == d]) for d in domains)
        lines.append(f"<tr><th scope=row>{_e(s)}</th>{tds}</tr>")
    return (
        f"<section id=matrix><h2>Across domains</h2><p>{_e(page.matrix_measure)}: 1 is a perfect reranker of the same "
        "candidates, 0 the first stage, below 0 does harm.</p><div class=scroll tabindex=0 role=region "
        f"aria-label=matrix><table class=sortable><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        "</div></section>"
    )


def _examples(examples: Iterable[Example]) -> str:
    out = []
    for e in examples:
        columns = "".join(
            f"<div><h4>{_e(system)}</h4><ol>{''.join(_candidate(*c) for c in candidates)}</ol></div>"
            for system, candidates in e.lists.items()
        )
        out.append(f"<details><summary>{_e(e.query)}</summary><div class=lists>{columns}</div></details>")
    return f"<h3>Queries, before and after</h3>{''.join(out)}" if out else ""


def _candidate(text: str, gain: float, reason: str) -> str:
    mark = f"<span class=gain>gain {_plain(gain)}</span>" if gain > 0 else ""
    why = f"<br><small>{_e(reason)}</small>" if reason else ""
    return f"<li{' class=good' if gain > 0 else ''}>{_e(text)} {mark}{why}</li>"


def _provenance(provenance: Mapping[str, Any]) -> str:
    if not provenance:
        return ""
    rows = "".join(
        f"<dt>{_e(k)}</dt><dd>{_e(v if isinstance(v, str) else json.dumps(v, ensure_ascii=False, default=str))}</dd>"
        for k, v in provenance.items()
    )
    return f"<section id=provenance><h2>Where these figures come from</h2><dl>{rows}</dl></section>"


def _paragraph(text: str) -> str:
    return f"<p>{_e(text)}</p>" if text else ""


def _e(x: object) -> str:
    return html.escape(str(x), quote=True)


def _plain(x: Any) -> str:
    if x is None:
        return "–"
    if isinstance(x, int) or float(x).is_integer():
        return f"{int(x):,}"
    return f"{x:.3f}" if abs(x) < 100 else f"{x:,.1f}"


def _num(x: Any) -> str:
    return "''" if x is None or not math.isfinite(x) else f"{x:.9g}"


_CSS = """
:root{color-scheme:light dark;--line:#8884;--bar:#4a90d933;--good:#2a8a3a}
*{box-sizing:border-box}body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:0 auto;padding:1rem}
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem}
h1{font-size:1.6rem}h2{margin-top:2.2rem;border-bottom:1px solid var(--line)}nav a{margin-right:.8rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;margin:.6rem 0}
caption{text-align:left;padding:.3rem 0;font-size:.9rem}th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);
text-align:left;white-space:nowrap}td{background:linear-gradient(90deg,var(--bar) var(--w,0%),transparent 0)}
td small{opacity:.75}tr.base th{font-weight:normal;font-style:italic}thead button{all:unset;cursor:pointer;font-weight:600}
thead button:focus-visible,input:focus-visible,summary:focus-visible,a:focus-visible,.scroll:focus-visible{outline:2px solid
#4a90d9;outline-offset:2px}th[aria-sort=ascending] button::after{content:" ▲"}th[aria-sort=descending] button::after{
content:" ▼"}details{border:1px solid var(--line);border-radius:.4rem;padding:.4rem .7rem;margin:.4rem 0}
summary{cursor:pointer}.lists{display:flex;flex-wrap:wrap;gap:1rem}.lists>div{flex:1 1 18rem;min-width:0}
li{overflow-wrap:anywhere;margin:.2rem 0}.good{color:var(--good)}.gain{font-size:.8rem;border:1px solid;border-radius:1rem;
padding:0 .4rem}dt{font-weight:600}dd{margin:0 0 .4rem 1rem;overflow-wrap:anywhere}figure{margin:1rem 0}figure svg{max-width:
100%;height:auto}
"""

_JS = """
for(const t of document.querySelectorAll("table.sortable")){
 const heads=[...t.tHead.rows[0].cells];
 heads.forEach((h,i)=>h.querySelector("button").addEventListener("click",()=>{
  const down=h.getAttribute("aria-sort")!=="descending";
  heads.forEach(x=>x.setAttribute("aria-sort","none"));h.setAttribute("aria-sort",down?"descending":"ascending");
  const key=r=>{const c=r.cells[i];return c.dataset.v===undefined?c.textContent:c.dataset.v===""?null:+c.dataset.v};
  const rows=[...t.tBodies[0].rows];
  rows.sort((a,b)=>{const x=key(a),y=key(b);if(x===null||y===null)return (x===null)-(y===null);
   const d=typeof x==="number"?x-y:x.localeCompare(y);return down?-d:d});
  t.tBodies[0].append(...rows);}));}
const f=document.getElementById("filter"),s=document.getElementById("shown");
f.addEventListener("input",()=>{const q=f.value.toLowerCase();let n=0,all=0;
 for(const r of document.querySelectorAll("table.sortable tbody tr")){all++;
  const on=r.textContent.toLowerCase().includes(q);r.hidden=!on;n+=on;}
 s.textContent=q?n+" of "+all+" rows":"";});
"""
