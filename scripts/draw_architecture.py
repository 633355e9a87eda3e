"""Draw docs/architecture.svg from the code's own imports: members as boxes in layers, the core's modules below.

``python scripts/draw_architecture.py`` writes it, ``--check`` fails when the file is not what the code says.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "architecture.svg"
WIDTH, BOX, ROW, GAP = 1100, 30, 74, 10


def members() -> dict[str, Path]:
    """Return import name -> source folder of every member."""
    return {p.name: p for p in sorted(ROOT.glob("*/*/src/rerank_*")) if p.is_dir()}


def imports(path: Path, package: str) -> set[str]:
    """Return the dotted names that a file imports at any depth, type-checking imports left out."""
    tree = ast.parse(path.read_text("utf-8"))
    hidden = {
        id(n)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for n in ast.walk(block)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            found.update(a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found.update(f"{node.module}.{a.name}" for a in node.names)
    return {f for f in found if f.split(".")[0].startswith("rerank_")}


def member_graph() -> dict[str, set[str]]:
    """Return which member imports which."""
    names = members()
    return {
        name: {i.split(".")[0] for f in folder.rglob("*.py") for i in imports(f, name)} & set(names) - {name}
        for name, folder in names.items()
    }


def core_graph() -> dict[str, set[str]]:
    """Return which room of the core imports which; a sub-package is one room."""
    folder = members()["rerank_core"]

    def room(dotted: str) -> str:
        parts = dotted.split(".")
        return parts[1] if len(parts) > 1 else ""

    rooms = {
        p.stem if p.is_file() else p.name for p in folder.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    rooms -= {"__init__"}
    graph: dict[str, set[str]] = {r: set() for r in rooms}
    for file in folder.rglob("*.py"):
        at = file.relative_to(folder).parts[0].removesuffix(".py")
        if at in rooms:
            graph[at] |= {room(i) for i in imports(file, "rerank_core")} & rooms - {at}
    return graph


def layers(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return rooms in layers: each stands above everything it imports.

    Raises
    ------
    ValueError
        When imports go in a circle.
    """
    level: dict[str, int] = {}

    def depth(name: str, path: tuple[str, ...]) -> int:
        if name in path:
            raise ValueError("imports in a circle: " + " -> ".join((*path, name)))
        if name not in level:
            level[name] = 1 + max((depth(n, (*path, name)) for n in graph[name]), default=-1)
        return level[name]

    for name in sorted(graph):
        depth(name, ())
    out: list[list[str]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    for name in sorted(graph):
        out[level[name]].append(name)
    return out[::-1]


def sheet(graph: Mapping[str, set[str]], top: int, title: str, short: str) -> tuple[list[str], int]:
    """Return the SVG of one graph and where it ends."""
    rows = layers(graph)
    parts = [f'<text x="20" y="{top}" class="t">{escape(title)}</text>']
    place: dict[str, tuple[float, float, float]] = {}
    y = top + 16
    for row in rows:
        width = min(150.0, (WIDTH - 40) / len(row) - GAP)
        left = (WIDTH - len(row) * (width + GAP)) / 2
        for i, name in enumerate(row):
            place[name] = (left + i * (width + GAP), y, width)
        y += ROW
    for name, targets in sorted(graph.items()):
        for target in sorted(targets):
            (x1, y1, w1), (x2, y2, w2) = place[name], place[target]
            parts.append(f'<line x1="{x1 + w1 / 2:.0f}" y1="{y1 + BOX:.0f}" x2="{x2 + w2 / 2:.0f}" y2="{y2:.0f}"/>')
    for name, (x, yy, w) in sorted(place.items()):
        label = name.removeprefix(short)
        size = min(13.0, 1.75 * w / max(1, len(label)))
        parts.append(f'<rect x="{x:.0f}" y="{yy:.0f}" width="{w:.0f}" height="{BOX}" rx="5"/>')
        parts.append(
            f'<text x="{x + w / 2:.0f}" y="{yy + 20:.0f}" class="b" font-size="{size:.1f}">{escape(label)}</text>'
        )
    return parts, y


def draw() -> str:
    """Return the whole picture."""
    first, end = sheet(member_graph(), 30, "Members: an arrow goes from who imports to what is imported", "rerank_")
    second, bottom = sheet(core_graph(), end + 20, "Rooms of rerank-core", "")
    style = (
        "text{font-family:system-ui,sans-serif}.t{font-size:16px;font-weight:600}.b{text-anchor:middle}"
        "rect{fill:#eaf2fb;stroke:#4a90d9}line{stroke:#8889;stroke-width:1}"
    )
    body = "\n".join([*first, *second])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom}" role="img" '
        f'aria-label="Import structure">\n<style>{style}</style>\n<rect width="{WIDTH}" height="{bottom}" '
        f'style="fill:#fff;stroke:none"/>\n{body}\n</svg>\n'
    )


def main(args: Iterable[str]) -> int:
    """Write or check the picture."""
    picture = draw()
    if "--check" in args:
        same = OUT.exists() and OUT.read_text("utf-8") == picture
        print("up to date" if same else "docs/architecture.svg is not what the code says: run this without --check")
        return 0 if same else 1
    OUT.write_text(picture, "utf-8")
    print(f"{OUT.relative_to(ROOT)} written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
