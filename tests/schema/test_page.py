"""The review page in a browser: Debian's Chromium, driven through playwright."""

from __future__ import annotations

import io
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rerank_schema.decide import packaged_decider
from rerank_schema.fabricate import fabricate
from rerank_schema.feedback import trainer
from rerank_schema.fit import matches_of
from rerank_schema.fused import Fused
from rerank_schema.match import MATCH, NO, REVIEW, Match
from rerank_schema.packaged import small_tables
from rerank_schema.results import write_matches
from rerank_schema.review.server import make_app
from rerank_schema.review.state import Review

pytestmark = [pytest.mark.browser, pytest.mark.slow]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]
MATCHES = [
    Match("people", "age", "std", "age_at_diagnosis", 0.9, 1, 0.93, MATCH, "names mean alike 0.71"),
    Match("people", "age", "std", "days_to_birth", 0.3, 2, 0.2, NO),
    Match("people", "sex", "std", "gender", 0.6, 1, 0.5, REVIEW, "2 shared values (female, male)"),
    Match("people", "sex", "std", "race", 0.1, 2, 0.1, NO),
    Match("people", "<b>x</b>", "std", "race", 0.1, 1, 0.01, NO, "<img src=x onerror=alert(1)>"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        running = play.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    path = tmp_path / "answers.json"
    with _serving(make_app(Review.of(MATCHES, path=path), {("source", ("people", "age")): ["41", "17"]})) as url:
        yield url, path


@contextmanager
def _serving(app: object) -> Iterator[str]:
    import uvicorn

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    for _ in range(200):
        if server.started:
            break
        time.sleep(0.05)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)
    listener.close()


def _open(browser, url: str):
    page = browser.new_page(viewport={"width": 1100, "height": 700})
    errors: list[str] = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.on("dialog", lambda d: errors.append("dialog"))
    page.goto(url)
    page.wait_for_selector("body[data-ready=true]")
    return page, errors


def test_a_review_by_keyboard(browser, served: tuple[str, Path]) -> None:
    url, path = served
    page, errors = _open(browser, url)
    assert page.text_content("#source") == "people.age"
    assert "41" in page.text_content("#sourceSamples")
    assert page.locator("#candidates li").count() == 2
    page.keyboard.press("Enter")  # accepts age_at_diagnosis, goes to the next open column
    page.wait_for_function("document.querySelector('#source').textContent === 'people.sex'")
    page.keyboard.press("2")  # race, by its number
    page.keyboard.press("x")  # the third has no match
    page.wait_for_function("document.querySelector('#count').textContent.startsWith('3 of 3')")
    page.keyboard.press("u")
    page.wait_for_function("document.querySelector('#count').textContent.startsWith('2 of 3')")
    page.keyboard.press("k")  # back to sex, choose another by search
    page.keyboard.press("/")
    page.keyboard.type("gend")
    page.keyboard.press("Enter")
    page.wait_for_function("[...document.querySelectorAll('nav small')][1].textContent === 'std.gender'")
    with page.expect_download() as download:
        page.click("#csv")
    text = Path(download.value.path()).read_text()
    assert "people,age,std,age_at_diagnosis" in text
    assert "people,sex,std,gender" in text
    assert errors == []
    page.close()
    # Nothing is lost when the page is opened anew.
    assert path.exists()
    page, errors = _open(browser, url)
    assert page.text_content("#count").startswith("2 of 3")
    assert errors == []
    page.close()


def _changed(before: bytes, after: bytes, box: dict[str, float]) -> bool:
    """Whether two screenshots differ inside a box, beyond what smoothing of edges does."""
    from PIL import Image, ImageChops

    corners = (box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"])
    parts = [Image.open(io.BytesIO(shot)).convert("L").crop([round(c) for c in corners]) for shot in (before, after)]
    return ImageChops.difference(*parts).getextrema()[1] > 16


def test_screenshots_show_what_was_answered(browser, served: tuple[str, Path]) -> None:
    page, errors = _open(browser, served[0])
    boxes = {name: page.locator(name).bounding_box() for name in ("#progress", "nav", "section", "footer")}
    assert all(b["x"] >= 0 and b["y"] >= 0 and b["x"] + b["width"] <= 1100 for b in boxes.values())
    assert boxes["nav"]["x"] + boxes["nav"]["width"] <= boxes["section"]["x"]  # side by side
    assert max(boxes[n]["y"] + boxes[n]["height"] for n in ("nav", "section")) <= boxes["footer"]["y"] + 1
    start = page.screenshot()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#source').textContent === 'people.sex'")
    accepted = page.screenshot()
    page.keyboard.press("u")
    page.wait_for_function("document.querySelector('#count').textContent.startsWith('0 of 3')")
    undone = page.screenshot()
    assert [_changed(start, accepted, b) for b in boxes.values()] == [True, True, True, False]
    assert not any(_changed(start, undone, b) for b in boxes.values())
    assert errors == []
    page.close()


def test_nothing_in_a_cell_becomes_markup_and_nothing_overflows(browser, served: tuple[str, Path]) -> None:
    page, errors = _open(browser, served[0])
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.text_content("#source") == "people.<b>x</b>"
    assert page.locator("section b >> nth=0").text_content() == "std.race"
    assert page.locator("img").count() == 0
    for width in (1100, 700):
        page.set_viewport_size({"width": width, "height": 700})
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert errors == []
    page.close()


def test_the_written_page_needs_no_server(browser, tmp_path: Path) -> None:
    path = tmp_path / "out.html"
    write_matches(path, MATCHES)
    page, errors = _open(browser, path.as_uri())
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#count').textContent.startsWith('1 of 3')")
    page.keyboard.press("u")
    page.wait_for_function("document.querySelector('#count').textContent.startsWith('0 of 3')")
    with page.expect_download() as download:
        page.click("#csv")
    assert "people,age,std,age_at_diagnosis" in Path(download.value.path()).read_text()
    assert errors == []
    page.close()


def test_answers_train_the_ranker(browser, encoder, tmp_path: Path) -> None:
    folder = tmp_path / "out.csv.model"
    table = max(small_tables()[:12], key=lambda t: len(t.frame.columns))
    pair = fabricate([table], seed=2, scenarios=["unionable"])[0]
    matcher = Fused(encoder)
    scored = matcher.score(pair.source.columns, pair.target.columns)
    review = Review.of(matches_of(pair, scored, packaged_decider()))
    with _serving(make_app(review, train=trainer(pair.source, pair.target, matcher, folder))) as url:
        page, errors = _open(browser, url)
        page.keyboard.press("t")
        page.wait_for_function("document.querySelector('#message').textContent.includes('0 answered columns')")
        for n in range(1, 7):
            page.keyboard.press("Enter")
            page.wait_for_function(f"document.querySelector('#count').textContent.startsWith('{n} of')")
        page.click("#train")
        page.wait_for_function("document.querySelector('#said').textContent.startsWith('learned from')")
        assert page.text_content("#message") == ""
        assert page.text_content("#count").startswith("6 of")
        assert errors == []
        page.close()
    assert (folder / "ranker.json").exists()
