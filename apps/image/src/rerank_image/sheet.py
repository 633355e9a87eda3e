"""The contact sheet: each query's results before and after reranking, in one self-contained HTML file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rerank_core.files import atomic_write

if TYPE_CHECKING:
    from PIL import Image

LABELS = {"easy": "#1a7f37", "hard": "#bf8700", "junk": "#8c959f", "negative": "#cf222e", "": "#d0d7de"}

_STYLE = """
body{font:13px/1.4 system-ui,sans-serif;margin:16px;color:#1f2328;background:#fff}
h1{font-size:18px;margin:0 0 4px} .note{color:#59636e;margin:0 0 12px}
.key span{display:inline-block;margin-right:12px}
.key i{display:inline-block;width:12px;height:12px;margin-right:4px;vertical-align:-1px}
section{display:flex;gap:12px;padding:10px 0;border-top:1px solid #d0d7de;align-items:flex-start}
.query{flex:0 0 100px} .lists{flex:1 1 auto;min-width:0;overflow-x:auto}
.row{display:flex;gap:6px;margin-bottom:6px;align-items:flex-start} .row>b{flex:0 0 46px;color:#59636e;font-weight:500}
figure{margin:0;flex:0 0 76px;width:76px}
figure div{height:70px;border:3px solid var(--c);border-radius:4px;overflow:hidden}
figure div{display:flex;align-items:center;justify-content:center;background:#f6f8fa}
figure img{max-width:70px;max-height:70px} .query img{max-width:96px;max-height:96px;border:1px solid #d0d7de}
figcaption{font-size:10px;white-space:nowrap;overflow:hidden;text-overflow:ellipsis} .up{color:#1a7f37} .down{color:#cf222e}
.name{overflow-wrap:anywhere;font-size:11px}
"""


@dataclass(frozen=True)
class Cell:
    """One result: where its picture is, 1-based ranks before and after, score, and its label (easy, hard, ...)."""

    path: str
    before: int
    after: int
    score: float
    label: str = ""


@dataclass(frozen=True)
class Strip:
    """One query with its first results before and after."""

    query: str
    picture: Image.Image | None
    before: tuple[Cell, ...]
    after: tuple[Cell, ...]


def thumbnail(picture: Image.Image, side: int = 70, quality: int = 70) -> str:
    """Return a JPEG data URI no larger than ``side`` pixels."""
    small = picture.convert("RGB")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def write_html(path: Path, strips: Iterable[Strip], load: Callable[[str], Image.Image | None], title: str) -> int:
    """Write the sheet; returns the number of queries.

    Every thumbnail is stored once, as a CSS background is not (it could not be scaled by its own shape): repeated
    pictures share one ``<img>`` source through a small table that a script of three lines fills in.

    Parameters
    ----------
    load
        Gives the picture of a result's path, or None where it cannot be opened any more.
    """
    numbers: dict[str, int] = {}
    sources: list[str] = []

    def source(name: str, picture: Image.Image | None) -> int | None:
        if name not in numbers:
            if picture is None:
                return None
            numbers[name] = len(sources)
            sources.append(thumbnail(picture))
        return numbers[name]

    count = 0
    with atomic_write(path) as out:
        out.write(
            f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>\n"
        )
        out.write(
            f"<h1>{html.escape(title)}</h1><p class=note>Each query: first results before reranking, and after.</p><p class=key>"
        )
        out.write(
            "".join(f"<span><i style='background:{c}'></i>{n or 'unlabelled'}</span>" for n, c in LABELS.items())
            + "</p>\n"
        )
        for strip in strips:
            own = None if strip.picture is None else thumbnail(strip.picture, 96)
            shown = f"<img src='{own}' alt=query>" if own else "(no picture)"
            out.write(
                f"<section><div class=query>{shown}<div class=name>{html.escape(strip.query)}</div></div><div class=lists>"
            )
            for word, cells in (("before", strip.before), ("after", strip.after)):
                out.write(f"<div class='row {word}'><b>{word}</b>")
                for cell in cells:
                    out.write(_figure(cell, source(cell.path, None if cell.path in numbers else load(cell.path)), word))
                out.write("</div>")
            out.write("</div></section>\n")
            count += 1
        table = ",".join(f'"{s}"' for s in sources)
        out.write(
            f"<script>const t=[{table}];"
            "for(const i of document.querySelectorAll('img[data-t]'))i.src=t[i.dataset.t]</script></html>\n"
        )
    return count


def _figure(cell: Cell, number: int | None, word: str) -> str:
    move = ""
    if word == "after" and cell.before != cell.after:
        way = "up" if cell.after < cell.before else "down"
        move = f" <span class={way}>{'▲' if way == 'up' else '▼'}{abs(cell.before - cell.after)}</span>"
    rank = cell.before if word == "before" else cell.after
    image = (
        f"<img data-t={number} alt='{html.escape(Path(cell.path).name, quote=True)}'>" if number is not None else "gone"
    )
    tip = html.escape(
        f"{cell.path}\nbefore {cell.before}, after {cell.after}, score {cell.score:.4f}\n{cell.label}", quote=True
    )
    colour = LABELS.get(cell.label, LABELS[""])
    return (
        f"<figure style='--c:{colour}' title='{tip}'><div>{image}</div>"
        f"<figcaption>{rank}{move} · {cell.score:.3f}</figcaption></figure>"
    )
