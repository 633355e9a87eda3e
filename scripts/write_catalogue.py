"""Write docs/catalogue.md from what is installed: every method of every domain, and every judge.

``python scripts/write_catalogue.py`` writes it, ``--check`` fails when the file is not what the code says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from rerank_core.domain import installed, load
from rerank_core.judging import catalogue

OUT = Path(__file__).resolve().parents[1] / "docs" / "catalogue.md"
HEAD = """# Method catalogue

Written by `python scripts/write_catalogue.py` from the registrations; do not edit. Figures stand on each domain's page,
with the command that gives them. `rerank DOMAIN methods` prints the same on the command line, with every setting.
"""


def cell(text: object) -> str:
    """Return text that fits a table cell."""
    return " ".join(str(text).split()).replace("|", "\\|") or "–"


def write() -> str:
    """Return the page."""
    parts = [HEAD]
    for name in installed():
        domain = load(name)
        parts.append(f"\n## {domain.title}\n\n`rerank-{name}`; [page]({name}.md)\n")
        parts.append("| method | what it does | source | needs | cost a query |\n|---|---|---|---|---|")
        for key, m in domain.methods.items():
            row = (f"`{key}`", cell(m.title), cell(m.source), cell(", ".join(m.needs)), cell(m.cost))
            parts.append(f"| {' | '.join(row)} |")
        measures = ", ".join(dict.fromkeys(str(x.name) for x in domain.measures))
        parts.append(f"\nMeasures of the field: {measures or 'the common ones'}.")
    parts.append("\n## Judges, in every domain that renders\n\n[Page](judges.md)\n")
    parts.append(
        "| judge | what it does | source | needs of a back end | calls a query | behind it |\n|---|---|---|---|---|---|"
    )
    for j in catalogue():
        row = (f"`{j['name']}`", *(cell(j.get(k, "")) for k in ("title", "source", "capability", "calls", "test")))
        parts.append(f"| {' | '.join(row)} |")
    return "\n".join(parts) + "\n"


def main(args: Iterable[str]) -> int:
    """Write or check the page."""
    page = write()
    if "--check" in args:
        same = OUT.exists() and OUT.read_text("utf-8") == page
        print("up to date" if same else "docs/catalogue.md is not what the code says: run this without --check")
        return 0 if same else 1
    OUT.write_text(page, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
