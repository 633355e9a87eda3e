"""Magneto as released: texts byte for byte, rankings to 1e-5, on data whose results were made with its own code."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rerank_schema.cleaning import clean
from rerank_schema.encode import load_encoder
from rerank_schema.gold import read_gold
from rerank_schema.magneto import MagnetoParams, match
from rerank_schema.match import Match
from rerank_schema.measures import (
    Judged,
    precision_recall_f1,
    recall_at_gold,
    recall_hits,
    reciprocal_ranks,
    valentine_one_to_one,
)
from rerank_schema.readers import read_schema
from rerank_schema.sampling import sample
from rerank_schema.serialise import serialise

pytestmark = pytest.mark.shared_data
FOLDERS = {"gdc": "gdc", "wikidata": "valentine-wikidata", "magellan": "valentine-magellan"}
SMALL = [
    "wikidata-musicians_joinable",
    "wikidata-musicians_unionable",
    "magellan-amazon_google_exp",
    "magellan-beeradvo_ratebeer",
    "magellan-fodors_zagats",
]
GDC = ["gdc-cao", "gdc-clark", "gdc-dou", "gdc-huang", "gdc-satpathy", "gdc-wang"]


def _oracle(shared_data: Callable[[str], Path], name: str) -> dict:
    with gzip.open(shared_data(f"schema/oracle/{name}"), "rt", encoding="utf-8") as stream:
        return json.load(stream)


def _folder(shared_data: Callable[[str], Path], pair: str) -> Path:
    family, name = pair.split("-", 1)
    return shared_data(f"schema/{FOLDERS[family]}/{name}")


def test_every_text_is_equal(shared_data: Callable[[str], Path]) -> None:
    texts = 0
    for key, columns in _oracle(shared_data, "serialisation.json.gz").items():
        if key == "gdc_target":
            path = shared_data("schema/gdc/target.csv.gz")
        else:
            pair, _, side = key.partition("|")
            path = _folder(shared_data, pair) / f"{side or 'source'}.csv.gz"
        for column, want in zip(read_schema(path).columns, columns, strict=True):
            cleaned = clean(column)
            assert (column.name, cleaned.type) == (want["column"], want["type"])
            for mode, samples in want["samples"].items():
                assert sample(cleaned, mode) == samples, (key, column.name, mode)
            for name, text in want["serialised"].items():
                encoding, mode = name.split("/")
                assert serialise(column.name, cleaned.type, sample(cleaned, mode), encoding) == text
                texts += 1
    assert texts > 5000


@pytest.mark.parametrize("pair", [*SMALL, *(pytest.param(p, marks=pytest.mark.slow) for p in GDC)])
def test_rankings_and_figures_are_equal(pair: str, shared_data: Callable[[str], Path]) -> None:
    folder = _folder(shared_data, pair)
    target = folder / "target.csv.gz" if (folder / "target.csv.gz").exists() else folder.parent / "target.csv.gz"
    sources, targets = read_schema(folder / "source.csv.gz").columns, read_schema(target).columns
    gold = read_gold(folder / "ground_truth.csv")
    encoder = load_encoder(precision="fp32")
    for mode, want in _oracle(shared_data, "magneto_minilm_default.json.gz")[pair].items():
        found = match(sources, targets, encoder, MagnetoParams(bipartite=mode == "bp"))
        named = {(sources[i].name, targets[j].name): v for (i, j), v in found.items()}
        expected = {(s, t): v for s, row in want["ranking"].items() for t, v in row}
        assert set(named) == set(expected)
        worst = max(abs(named[p] - expected[p]) for p in expected)
        print(f"{pair} {mode}: {len(expected)} pairs, worst difference {worst:.1e}")
        assert worst < 1e-5
        _same_figures(named, gold, want["metrics"])


def _same_figures(named: dict[tuple[str, str], float], gold, want: dict[str, float]) -> None:
    rank: dict[str, int] = {}
    matches = []
    for (s, t), score in sorted(named.items(), key=lambda item: -item[1]):
        rank[s] = rank.get(s, 0) + 1
        matches.append(Match("", s, "", t, score, rank[s]))
    judged = Judged(matches, gold)
    ranks, hits = reciprocal_ranks(judged), recall_hits(judged)
    # Tied scores may be ordered differently from run to run; a tie at a cut moves a figure by one pair.
    step = 1 / len(judged.gold) + 1e-6 if len({round(v, 6) for v in named.values()}) < len(named) else 1e-6
    assert sum(ranks.values()) / len(ranks) == pytest.approx(want["MeanReciprocalRank"], abs=step / 2)
    assert recall_at_gold(judged) == pytest.approx(want["RecallAtSizeofGroundTruth"], abs=step)
    assert sum(hits.values()) / len(hits) == pytest.approx(want["Recall@20"], abs=1e-6)
    found = precision_recall_f1(valentine_one_to_one(judged.scores), judged.gold)
    assert found[2] == pytest.approx(want["F1Score"], abs=2 * step)
