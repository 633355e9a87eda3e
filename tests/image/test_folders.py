"""Folders of pictures: the index's life, bad files, faults, the commands."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.image.commands import command

from rerank_core.errors import InputError, UsageError
from rerank_image.arrays import as_matrix
from rerank_image.data import load_pickle, read_truth
from rerank_image.index import Item, create, open_index, writer


def vectors(n: int, seed: int = 0, dims: int = 8) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, dims))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def filled(folder: Path, n: int = 20) -> np.ndarray:
    x = vectors(n)
    create(folder, 8, "f")
    with writer(folder) as w:
        w.append([Item(f"p{i}") for i in range(n)], x, "f")
    return x


def test_add_search_remove_and_compaction(tmp_path: Path) -> None:
    x = filled(tmp_path / "i")
    index = open_index(tmp_path / "i")
    query = x[3:4].astype(np.float32)
    want = np.argsort(-(query @ index.rows(np.arange(20)).T)[0], kind="stable")[:5]
    assert index.search(query, 5).ids[0].tolist() == want.tolist()
    with writer(tmp_path / "i") as w:
        assert w.remove(["p3", "absent"]) == 1
    after = open_index(tmp_path / "i")
    assert len(after) == 19 and "p3" not in after.paths(after.search(query, 19).ids[0])
    with writer(tmp_path / "i") as w:
        w.remove([f"p{i}" for i in range(10)])
    small = open_index(tmp_path / "i")
    assert small.vectors.shape[0] == 10, "holes were not compacted away"
    assert small.paths([0, 9]) == ["p10", "p19"]
    np.testing.assert_array_equal(small.vectors[0], index.vectors[10])
    with pytest.raises(InputError, match="open it again"):
        index.paths([0])


def test_bytes_left_by_a_killed_writer_are_ignored(tmp_path: Path) -> None:
    filled(tmp_path / "i")
    with next((tmp_path / "i").glob("*.f16")).open("ab") as file:
        file.write(b"\x01" * 100)
    assert len(open_index(tmp_path / "i")) == 20
    with writer(tmp_path / "i") as w:
        w.append([Item("new")], vectors(1, 9), "f")
    index = open_index(tmp_path / "i")
    np.testing.assert_allclose(index.rows(np.array([20]))[0], vectors(1, 9)[0], atol=1e-3)


def test_kill_during_add_keeps_the_index_readable(tmp_path: Path) -> None:
    filled(tmp_path / "i")
    script = (
        "import sys, numpy as np\nfrom rerank_image.index import *\n"
        "with writer(sys.argv[1]) as w:\n  n = 0\n  print('go', flush=True)\n  while True:\n"
        "    w.append([Item(f'k{n + i}') for i in range(500)], np.ones((500, 8)), 'f'); n += 500\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "i")], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"go\n"
    with pytest.raises(UsageError, match="another process"), writer(tmp_path / "i"):
        pass
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    index = open_index(tmp_path / "i")
    assert len(index) % 500 == 20
    assert index.search(vectors(1).astype(np.float32), 3).ids.shape == (1, 3)
    with writer(tmp_path / "i") as w:
        w.append([Item("later")], vectors(1), "f")


def test_cut_off_mixed_and_not_finite_are_refused(tmp_path: Path) -> None:
    filled(tmp_path / "i")
    with writer(tmp_path / "i") as w:
        with pytest.raises(InputError, match="another extractor"):
            w.append([Item("x")], vectors(1), "other")
        with pytest.raises(InputError, match="x holds NaN"):
            w.append([Item("x")], vectors(1) * np.nan, "f")
    assert len(open_index(tmp_path / "i")) == 20
    file = next((tmp_path / "i").glob("*.f16"))
    os.truncate(file, 100)
    with pytest.raises(InputError, match="cut off"):
        open_index(tmp_path / "i")
    (tmp_path / "i" / "manifest.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(InputError, match="damaged manifest"):
        open_index(tmp_path / "i")
    with pytest.raises(InputError, match="row 1 holds NaN"):
        as_matrix(np.array([[1.0, 2], [np.nan, 0]]))


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch owned",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickles_are_data_only(tmp_path: Path, protocol: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    good = {"imlist": ["a", "b"], "qimlist": ["q"], "gnd": [
        {"easy": np.array([0]), "hard": [np.int64(1)], "junk": [], "bbx": [0.0, 1.0, 2.0, 3.0]}
    ]}  # fmt: skip
    path = tmp_path / "gnd.pkl"
    path.write_bytes(pickle.dumps(good, protocol))
    truth = read_truth(path)
    assert truth.truths[0].easy == (0,) and truth.truths[0].hard == (1,) and truth.truths[0].bbx == (0, 1, 2, 3)
    path.write_bytes(pickle.dumps({"imlist": [_Evil()]}, protocol))
    with pytest.raises(InputError, match="system is not allowed"):
        load_pickle(path)
    path.write_bytes(pickle.dumps(good, protocol)[:-20])
    with pytest.raises(InputError, match=r"pickle|damaged"):
        load_pickle(path)
    assert not (tmp_path / "owned").exists()


def hostile(folder: Path) -> None:
    """Put every bad and odd file beside good ones."""
    from PIL import Image

    good = next(folder.glob("*.jpg")).read_bytes()
    (folder / "cut.jpg").write_bytes(good[: len(good) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("no picture")
    picture = Image.new("RGB", (60, 40), (200, 30, 30))
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.full((40, 60), 40000, np.uint16)).save(folder / "deep.png")
    picture.convert("P").save(folder / "palette.png", transparency=0)
    picture.save(folder / "moving.gif", save_all=True, append_images=[Image.new("RGB", (60, 40))])
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(folder / "turned.jpg", exif=exif)
    Image.new("L", (1, 1)).save(folder / "dot.png")
    Image.new("RGB", (10000, 50)).save(folder / "long.png")
    picture.save(folder / "ü 漢\nnew.png")
    (folder / "loop").symlink_to(folder)
    (folder / "dangling.jpg").symlink_to(folder / "nowhere.jpg")


def test_life_of_an_index_through_the_commands(pictures: Path, tmp_path: Path) -> None:
    folder, index = tmp_path / "photos", tmp_path / "index"
    shutil.copytree(pictures, folder)
    hostile(folder)
    args = ("--scales", 1, "--size", 96)
    first = command("index", folder, "-o", index, "--json", *args)
    report = json.loads(first.stdout)
    skipped = {Path(p).name for p, _ in report["skipped"]}
    assert skipped == {"cut.jpg", "empty.jpg", "text.png", "dangling.jpg"}
    assert report["added"] == 12 + 8
    assert sum(line.startswith("skipped: ") for line in first.stderr.splitlines()) == 4, "one line a warning"

    before = np.array(open_index(index).vectors)
    again = json.loads(command("index", folder, "-o", index, "--json", *args).stdout)
    assert (again["added"], again["changed"], again["unchanged"]) == (0, 0, 20)
    more = tmp_path / "more"
    more.mkdir()
    query = min(pictures.glob("*.jpg"))
    shutil.copy(query, more / "one.jpg")
    added = json.loads(command("add", index, more, "--json").stdout)
    assert (added["added"], added["unchanged"]) == (1, 0)
    np.testing.assert_array_equal(open_index(index).vectors[:20], before)

    for extra in ((), ("--fast",), ("--explain",), ("--method", "k-reciprocal")):
        found = json.loads(command("search", index, query, "--top", 400, "--json", *extra).stdout)[0]["results"]
        assert [r["rank"] for r in found] == list(range(1, 22))
        assert {Path(r["path"]).name for r in found[:2]} == {query.name, "one.jpg"}, extra
    answer = json.loads(command("explain", index, query, more / "one.jpg", "--json").stdout)
    assert sum(n["contribution"] for n in answer["neighbours"]) == pytest.approx(answer["score"], abs=1e-5)

    command("remove", index, more)
    assert len(open_index(index)) == 20
    bad = command("search", index, query, "--box", "0,0,5000,10", rc=2)
    assert query.name in bad.stderr and "not inside" in bad.stderr
    wrong = command("index", folder, "-o", tmp_path / "new", "--set", "gemm=3", rc=2)
    assert "settings: backbone, enlarge, gem" in wrong.stderr and not (tmp_path / "new").exists()
    assert "another extractor" in command("index", folder, "-o", index, *args, "--set", "gem=3", rc=2).stderr
    other = command("index", folder, "-o", index, "--scales", 3, rc=2)
    assert "another extractor" in other.stderr


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    argv = [sys.executable, "-c", "from rerank_image.cli import main; main()", "index", "none", "-o", "i"]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "holds no pictures" in done.stderr and not (tmp_path / "i").exists()


def test_arrays_through_the_commands(tmp_path: Path) -> None:
    x = vectors(80, dims=24)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "q.npy", x[:4])
    gnd = {
        "imlist": [f"i{n}" for n in range(80)],
        "qimlist": list("abcd"),
        "gnd": [{"easy": [n], "hard": [], "junk": []} for n in range(4)],
    }
    (tmp_path / "gnd.json").write_text(json.dumps(gnd))
    base = ("rerank", "--descriptors", tmp_path / "x.npy", "--queries", tmp_path / "q.npy")
    for method in ("none", "auto", "diffusion"):
        command(*base, "--method", method, "--top", 40, "-o", tmp_path / f"{method}.npz")
    z = np.load(tmp_path / "none.npz")
    assert z["ranks"].dtype == np.int64 and z["ranks"].shape == (4, 80)
    command(*base, "--method", "none", "--gnd", tmp_path / "gnd.json", "-o", tmp_path / "none.run")
    rows = json.loads(
        command("eval", tmp_path / "none.npz", tmp_path / "none.run", "--gnd", tmp_path / "gnd.json", "--json").stdout
    )
    values = {r["system"]: r["value"] for r in rows if r["measure"] == "mAP-M"}
    assert len(values) == 2 and set(values.values()) == {1.0}
    np.savez(tmp_path / "wrong.npz", ranks=np.array([[99], [0], [0], [0]]))
    assert "ranks row 99" in command("eval", tmp_path / "wrong.npz", "--gnd", tmp_path / "gnd.json", rc=2).stderr
    np.save(tmp_path / "nan.npy", np.full((2, 24), np.nan))
    done = command(
        "rerank", "--descriptors", tmp_path / "nan.npy", "--queries", tmp_path / "q.npy", "-o", tmp_path / "o.npz", rc=2
    )
    assert "NaN" in done.stderr and not (tmp_path / "o.npz").exists()
    assert "Traceback" not in done.stderr


def test_mat_features_class_folders_and_ns_score(pictures: Path, tmp_path: Path) -> None:
    from scipy.io import savemat

    x = vectors(8, dims=12).astype(np.float32)
    savemat(tmp_path / "features.mat", {"X": x.T, "Q": x[:2].T})
    mat = tmp_path / "features.mat"
    command(
        "rerank", "--descriptors", f"{mat}:X", "--queries", f"{mat}:Q", "--method", "none", "-o", tmp_path / "r.npz"
    )
    assert np.load(tmp_path / "r.npz")["ranks"][:, 0].tolist() == [0, 1]
    # two classes of four pictures; every ranking finds the picture itself first, then its own class or the other
    for name in ("a", "b"):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for i, source in enumerate(sorted(pictures.glob("*.jpg"))[:4]):
            shutil.copy(source, tmp_path / "classes" / name / f"{i}.jpg")
    own = [[i, *(j for j in range(4) if j != i), 4, 5, 6, 7] for i in range(4)]
    other = [[i, 0, 1, 2, 3, *(j for j in range(4, 8) if j != i)] for i in range(4, 8)]
    np.savez(tmp_path / "both.npz", ranks=np.array(own + other))
    rows = json.loads(command("eval", tmp_path / "both.npz", "--gnd", tmp_path / "classes", "--json").stdout)
    value = {r["measure"]: r["value"] for r in rows}
    assert value["N-S"] == pytest.approx((4 * 4 + 4 * 1) / 8)
    assert value["Hit@1"] == 0.5 and value["R@5"] == pytest.approx((1 + 1 / 3) / 2)


def test_fusion_reads_matrices_rankings_and_runs_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 20)).astype(np.float32), 1000 * rng.normal(size=(6, 20)).astype(np.float32)
    np.savez(tmp_path / "two.npz", a=a, b=b)
    run = [f"{q} Q0 {d} 0 {b[q, d]!r} b" for q in range(6) for d in range(20)]
    (tmp_path / "b.run").write_text("\n".join(line.replace("np.float32(", "").replace(")", "") for line in run))
    order = np.argsort(-b, axis=1, kind="stable")
    np.savez(tmp_path / "b.npz", ranks=order, scores=np.take_along_axis(b, order, 1))
    (tmp_path / "gold.json").write_text(json.dumps([[3], [1, 2], [0], [19], [4], [5]]))
    want = np.argsort(-((a - a.mean(1, keepdims=True)) / a.std(1, keepdims=True) + (b - b.mean(1, keepdims=True)) / b.std(1, keepdims=True)), 1)  # fmt: skip  # noqa: E501
    for other in (f"{tmp_path / 'two.npz'}:b", tmp_path / "b.run", tmp_path / "b.npz"):
        command("fuse", f"{tmp_path / 'two.npz'}:a", other, "-o", tmp_path / "f.npz")
        np.testing.assert_array_equal(np.load(tmp_path / "f.npz")["ranks"], want)
    command("eval", tmp_path / "f.npz", "--gnd", tmp_path / "gold.json", "--classes", "--json")
    np.savez(tmp_path / "small.npz", a=a[:, :5])
    done = command("fuse", f"{tmp_path / 'two.npz'}:a", f"{tmp_path / 'small.npz'}:a", "-o", tmp_path / "n.npz", rc=2)
    assert "different shapes" in done.stderr and not (tmp_path / "n.npz").exists()


def test_landmarks_csv(tmp_path: Path) -> None:
    (tmp_path / "solution.csv").write_text("id,images,Usage\nq1,a b,Public\nq2,None,Ignored\nq3,c,Private\n")
    (tmp_path / "sub.csv").write_text("id,images\nq1,a x b\nq3,y z\n")
    rows = json.loads(command("eval", tmp_path / "sub.csv", "--gldv2", tmp_path / "solution.csv", "--json").stdout)
    assert rows[0]["measure"] == "mAP@100" and rows[0]["n"] == 2
    assert rows[0]["value"] == pytest.approx(((1 + 2 / 3) / 2 + 0) / 2)


@pytest.mark.browser
def test_contact_sheet(pictures: Path, tmp_path: Path) -> None:
    chromium = Path("/usr/bin/chromium")
    if not chromium.exists():
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    command("index", pictures, "-o", tmp_path / "i", "--scales", 1, "--size", 96)
    names = sorted(p.name for p in pictures.glob("*.jpg"))
    gnd = {"imlist": names[1:], "qimlist": names, "gnd": [{"easy": [0], "hard": [1], "junk": [2]} for _ in names]}
    (tmp_path / "gnd.json").write_text(json.dumps(gnd))
    command(
        "sheet", tmp_path / "i", "--queries", pictures, "--gnd", tmp_path / "gnd.json", "-o", tmp_path / "sheet.html"
    )
    assert (tmp_path / "sheet.html").stat().st_size < 6e6
    flags = "--no-sandbox --disable-gpu --disable-background-networking --no-first-run --disable-component-update --disable-sync"
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=str(chromium), args=flags.split())
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        asked: list[str] = []
        page.on("request", lambda r: asked.append(r.url))
        page.goto((tmp_path / "sheet.html").as_uri())
        boxes = page.evaluate(
            "[...document.querySelectorAll('.row')].map(r => [...r.querySelectorAll('figure')].map(f => {"
            "const b = f.getBoundingClientRect(), i = f.querySelector('img');"
            "return [b.left, b.right, b.top, b.bottom, i.complete && i.naturalWidth > 0]}))"
        )
        colours = page.evaluate(
            "[...document.querySelectorAll('figure')].map(f => [f.title.split('\\n')[0].split('/').pop(), "
            "f.title.split('\\n')[2], f.style.getPropertyValue('--c')])"
        )
        page.screenshot(path=str(tmp_path / "sheet.png"))
        browser.close()
    assert all(u.startswith(("file:", "data:")) for u in asked)
    assert len(boxes) == 24 and all(len(row) == 10 for row in boxes)
    for row in boxes:
        assert all(shown for *_, shown in row)
        assert all(b[0] >= a[1] for a, b in itertools.pairwise(row)), "thumbnails overlap"
    want = dict(zip(names, ["", "easy", "hard", "junk", *["negative"] * 8], strict=True))
    assert {name: label for name, label, _ in colours} == want, "the one that the ground truth leaves out has no label"
    assert len({colour for *_, colour in colours}) == 5
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def test_photos_known_by_descriptor_only_still_have_a_report() -> None:
    from rerank_core.report import examples_of
    from rerank_core.types import Candidate, Dataset, Ranking, Request
    from rerank_image.domain import domain
    from rerank_image.photos import Photo

    photo = Photo(np.eye(1, 4, dtype=np.float32)[0])
    request = Request("q", photo, (Candidate("a.jpg", photo), Candidate("b.jpg", photo)))
    ranking = Ranking.from_scores(request, np.array([0.0, 1.0]))
    (example,) = examples_of(domain, Dataset([request], {"q": {"a.jpg": 1.0}}), {"first": [ranking]})
    assert example.query == "[q]" and example.lists["first"] == [("[b.jpg]", 0.0, ""), ("[a.jpg]", 1.0, "")]
