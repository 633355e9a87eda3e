"""Linking free text: order, evidence, years, and catalogues meant to be slow."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_recommend.data import make_catalogue
from rerank_recommend.grounding import Grounder
from rerank_recommend.linking import Linker

FILMS = [
    "It",
    "Her",
    "Up",
    "Us",
    "Spider-Man",
    "The Ring",
    "Iron Man",
    "Iron Man 2",
    "Frozen",
    "The Shawshank Redemption",
    "Memento",
]
OTHERS = ["Drama", "Tom Hanks", "Comedy", "Film"]
CATALOGUE = make_catalogue(
    [
        *({"id": i, "name": n, "is_item": True} for i, n in enumerate(FILMS)),
        *({"id": 100 + i, "name": n, "is_item": False} for i, n in enumerate(OTHERS)),
        {"id": 200, "name": "Aladdin (1992)", "is_item": True},
        {"id": 201, "name": "Aladdin (2019)", "is_item": True},
        {"id": 202, "name": "Drama (2010)", "is_item": True},
    ]
)
LINKER = Linker(CATALOGUE)


def names(text: str) -> list[str]:
    return [CATALOGUE.names[link.row] for link in LINKER.link(text)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("I saw spiderman and then Iron Man 2 with Tom Hanks", ["Spider-Man", "Iron Man 2", "Tom Hanks"]),
        ("it was up to her, trust us, i like it", []),
        ('We watched "It" yesterday', ["It"]),
        ("The best one is Up (2009).", ["Up"]),
        ("The ring on my finger", []),
        ("Have you seen The Ring?", ["The Ring"]),
        ("have you seen memento", ["Memento"]),
        ("i like drama and the occasional comedy", ["Drama", "Comedy"]),
        ("the shawshank redemption", ["The Shawshank Redemption"]),
        ("Aladdin (2019) is worse than Aladdin (1992)", ["Aladdin (2019)", "Aladdin (1992)"]),
        ("frozen peas", []),
        ("", []),
    ],
)
def test_mentions(text: str, wanted: list[str]) -> None:
    if "(2009)" in text:
        catalogue = make_catalogue([{"id": 1, "name": "Up", "year": 2009}])
        assert [catalogue.names[x.row] for x in Linker(catalogue).link(text)] == wanted
    else:
        assert names(text) == wanted


def test_offsets_name_the_mention() -> None:
    text = "Well, The Shawshank Redemption & Iron Man!"
    assert [text[x.start : x.end] for x in LINKER.link(text)] == ["The Shawshank Redemption", "Iron Man"]


@settings(max_examples=300)
@given(st.lists(st.sampled_from([*FILMS, *OTHERS, "and", "the", "(2019)", '"', ".", "é", "\U0001f3ac"]), max_size=15))
def test_links_are_in_order_and_do_not_overlap(parts: list[str]) -> None:
    text = " ".join(parts)
    end = 0
    for found in LINKER.link(text):
        assert end <= found.start < found.end <= len(text) and 0 < found.score <= 1
        end = found.end


def test_fifty_thousand_items_of_one_title_are_no_trap() -> None:
    catalogue = make_catalogue([{"id": i, "name": "Same Old Title", "year": 1900 + i % 120} for i in range(50_000)])
    start = time.process_time()
    linker, grounder = Linker(catalogue), Grounder(catalogue)
    for n in range(500):
        found = linker.link(f"Same Old Title ({1900 + n % 120}) and Same Old Title, or same old titel {n}")
        assert len(found) == 2 and catalogue.years[found[0].row] == 1900 + n % 120
    grounded = grounder.ground([f"Same Old Title ({1900 + n % 120})" for n in range(500)] + ["Same Old Titel"] * 500)
    assert all(g.item is not None and len(g.namesakes) <= 2 for g in grounded)
    assert time.process_time() - start < 15
