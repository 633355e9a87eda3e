"""The embedded sample: documentation search over Python packages that are installed anyway.

A query is the first sentence of a public function's docstring; the page to find is the rest of that docstring, without
the sentence and without the function's own name. Source files are parsed, never imported, so building it takes seconds
and runs no code. Pages and queries come from whatever versions are installed: real text, but no fixed benchmark.
"""

from __future__ import annotations

import ast
import importlib.util
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rerank_core.types import Dataset
from rerank_passages.retrieve import Bm25Index
from rerank_passages.text import sentences

PACKAGES = ("numpy", "scipy", "pydantic", "rich", "typer")
"""Dependencies of this package itself; the first two hold most of the pages."""

_UNDERLINE = re.compile(r"^\s*[-=~*]{3,}\s*$", re.MULTILINE)
_PROMPT = re.compile(r"^\s*(>>>|\.\.\.).*$", re.MULTILINE)
_SKIP = {"tests", "_vendor", "testing", "conftest.py"}


@dataclass(frozen=True)
class Page:
    """A documented function: where it is, the first sentence of its documentation, and the rest."""

    id: str
    sentence: str
    text: str


def documentation(packages: tuple[str, ...] = PACKAGES, *, words: int = 80) -> list[Page]:
    """Collect the public functions' and methods' docstrings of installed packages.

    Parameters
    ----------
    words
        Longest page; longer docstrings are cut, so that a page is what a search result shows.

    Returns
    -------
    list of Page
        Sorted by id; pages that repeat another's first sentence or text are left out.
    """
    pages: dict[str, Page] = {}
    for package in packages:
        spec = importlib.util.find_spec(package)
        for location in spec.submodule_search_locations or () if spec else ():
            root = Path(location)
            for file in sorted(root.rglob("*.py")):
                if _SKIP.isdisjoint(file.relative_to(root).parts) and not file.name.startswith("test_"):
                    module = ".".join([package, *file.relative_to(root).with_suffix("").parts])
                    for page in _pages(file, module.removesuffix(".__init__"), words):
                        pages.setdefault(page.id, page)
    seen: set[str] = set()
    out = []
    for page in sorted(pages.values(), key=lambda p: p.id):
        keys = {page.sentence.lower(), page.text.lower()}
        if not keys & seen:
            out.append(page)
        seen |= keys
    return out


def _pages(file: Path, module: str, words: int) -> Iterator[Page]:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError, ValueError):
        return
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield from _page(node, module, words)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for member in node.body:
                if isinstance(member, ast.FunctionDef):
                    yield from _page(member, f"{module}.{node.name}", words)


def _page(node: ast.FunctionDef, parent: str, words: int) -> Iterator[Page]:
    doc = ast.get_docstring(node)
    if node.name.startswith("_") or not doc:
        return
    head, _, body = doc.partition("\n\n")
    first = sentences(" ".join(head.split()))
    if not first:
        return
    sentence, rest = first[0], " ".join(first[1:])
    text = _PROMPT.sub(" ", _UNDERLINE.sub(" ", f"{rest}\n{body}"))
    text = " ".join(re.sub(rf"\b{re.escape(node.name)}\b", " ", text.replace(sentence, " ")).split())
    if len(sentence.split()) >= 5 and len(text.split()) >= 20:
        yield Page(f"{parent}.{node.name}", sentence, " ".join(text.split()[:words]))


def documentation_search(*, queries: int = 300, depth: int = 20, seed: int = 0) -> Dataset[str, str]:
    """Build the sample: ``queries`` sentences, each with BM25's top ``depth`` of all pages.

    The page is not forced into the candidates: where BM25 misses it, no reranker can find it.
    """
    pages = documentation()
    texts = {p.id: p.text for p in pages}
    chosen = random.Random(seed).sample(pages, min(queries, len(pages)))
    asked = {f"q:{p.id}": p.sentence for p in chosen}
    requests = Bm25Index.build(texts).requests(asked, texts, depth)
    gold = {f"q:{p.id}": {p.id: 1.0} for p in chosen}
    return Dataset(requests, gold, name="docs-search")
