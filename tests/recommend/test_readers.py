"""Other tools' files: what they hold comes in, what is wrong with them is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rerank_core.errors import InputError
from rerank_recommend.commands import fit_any
from rerank_recommend.data import make_catalogue
from rerank_recommend.model import Recommender
from rerank_recommend.readers import detect, read_crslab, read_interactions, read_reviews


def movielens(folder: Path) -> Path:
    (folder / "movies.csv").write_text(
        'movieId,title,genres\n1,"Usual Suspects, The (1995)",Crime|Thriller\n2,Toy Story (1995),Animation\n3,No Year,Drama\n'
    )
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n7,1,5.0,1\n7,2,1.5,2\n8,3,4.0,3\n")
    return folder / "ratings.csv"


def test_movielens(tmp_path: Path) -> None:
    data = read_interactions([movielens(tmp_path)], "movielens")
    assert next((i.title, i.year) for i in data.catalogue.items) == ("Usual Suspects, The", 1995)
    assert data.catalogue.items[2].year is None
    assert data.user_items.toarray().tolist() == [[1, 1, 0], [0, 0, 1]] and data.users == ("7", "8")
    assert read_interactions([tmp_path / "ratings.csv"], "movielens", min_rating=4).user_items.sum() == 2


def test_recbole(tmp_path: Path) -> None:
    (tmp_path / "ml.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\n9\tHeat\t1995\n4\tAlien\t1979\n"
    )
    (tmp_path / "ml.inter").write_text("user_id:token\titem_id:token\trating:float\na\t4\t3\nb\t9\t5\n")
    assert detect(tmp_path / "ml.inter") == "recbole"
    data = read_interactions([tmp_path / "ml.inter"], "recbole")
    assert [i.label for i in data.catalogue.items] == ["Heat (1995)", "Alien (1979)"]
    assert data.user_items.toarray().tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"userId,movieId,rating\n1,2\n", r"ratings\.csv:2: has 2 columns, the header 3"),
        (b"userId,title\n1,2\n", r"ratings\.csv:1: has no column 'movieId'"),
        (b"userId,movieId,rating\n1,99,3\n", "item '99' is not in the items' file"),
        (b"userId,movieId,rating\n1,caf\xe9,3\n", r"ratings\.csv:2: invalid UTF-8"),
        (b"userId,movieId,rating\n", "no interactions"),
        (b"", "is empty"),
    ],
)
def test_bad_ratings_name_file_and_line(tmp_path: Path, text: bytes, message: str) -> None:
    movielens(tmp_path)
    (tmp_path / "ratings.csv").write_bytes(text)
    with pytest.raises(InputError, match=message):
        read_interactions([tmp_path / "ratings.csv"], "movielens")


def test_interactions_fit_save_serve(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["userId,movieId,rating"]
    for u in range(120):
        lines += [f"u{u},{(u % 2) * 20 + i},1" for i in rng.choice(20, 8, replace=False)]
    (tmp_path / "ratings.csv").write_text("\n".join(lines) + "\n")
    fit_any([tmp_path / "ratings.csv"], tmp_path / "m")
    model = Recommender.load(tmp_path / "m")
    column = model.catalogue.column_of
    known = [[column[str(i)] for i in range(5)], [column[str(i)] for i in range(20, 25)], []]
    found = model.recommend_known(known, 5)
    assert all(int(i) < 20 for i, _ in found[0]) and all(int(i) >= 20 for i, _ in found[1])
    assert not {i for i, _ in found[0]} & {str(i) for i in range(5)}
    assert len(found[2]) == 5


def test_crslab_and_unicrs(tmp_path: Path) -> None:
    catalogue = make_catalogue(
        [{"id": 0, "name": "Alien"}, {"id": 1, "name": "Up"}, {"id": 2, "name": "Horror", "is_item": False}]
    )
    dialogue = {
        "conv_id": 5,
        "messages": [
            {"role": "Seeker", "text": "Something with horror", "entity": ["<http://dbpedia.org/resource/Horror>"]},
            {"role": "Recommender", "text": "Try Alien", "movies": [0]},
            {"role": "Seeker", "text": "Seen it", "movies": [0]},
            {"role": "Recommender", "text": "Up then", "movies": ["Up"]},
        ],
    }
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps(dialogue) + "\n")
    assert detect(path) == "crslab"
    turns, gold = read_crslab([path], catalogue)
    assert [(t.id, len(t.context), t.mentions) for t in turns] == [
        ("5/1", 1, ("Horror",)),
        ("5/3", 3, ("Horror", 0, 0)),
    ]
    assert gold == {"5/1": (0,), "5/3": ("Up",)}
    path.write_text('{"messages": "no"}\n')
    with pytest.raises(InputError, match=r"c\.jsonl:1"):
        read_crslab([path], catalogue)


def test_reviews_from_csv_get_a_split_by_user(tmp_path: Path) -> None:
    rows = ["user,item,text"] + [f'u{u},i{i},"good, tasty"' for u in range(20) for i in range(4)]
    (tmp_path / "r.csv").write_text("\n".join(rows) + "\n")
    reviews = read_reviews(tmp_path / "r.csv")
    assert {r.split for r in reviews} == {"train", "test"} and reviews[0].text == "good, tasty"
    by_user: dict[str, set[str]] = {}
    for r in reviews:
        by_user.setdefault(r.user, set()).add(r.split)
    assert all(len(s) == 1 for s in by_user.values()) and sum(s == {"test"} for s in by_user.values()) == 4


@pytest.mark.shared_data
def test_movielens_small_comes_in_whole(shared_data: Callable[[str], Path]) -> None:
    data = read_interactions([shared_data("recsys/movielens_small/ratings.csv.gz")], "movielens")
    assert data.user_items.shape == (610, 9742) and data.user_items.nnz == 100_836
