"""The report as a person uses it: sorting, filtering, keyboard, phone, no network."""

from __future__ import annotations

import shutil

import pytest

from rerank_core.report import Example, Page, Section, render

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-sync"]


def row(domain, system, measure, value, **extra):
    return {"domain": domain, "data": "d", "system": system, "measure": measure, "value": value, "n": 9} | {
        "ci_low": value - 0.1,
        "ci_high": value + 0.1,
        "seconds": 1.5,
        "calls": 3,
        **extra,
    }


def page() -> str:
    rows = [
        row("words", "first stage", "MRR@10", 0.4),
        row("words", "clever", "MRR@10", 0.8, p=0.001),
        row("words", "slow", "MRR@10", 0.6),
        row("words", "clever", "GainRecovered", 0.7),
    ]
    other = [row("pictures", "clever", "GainRecovered", 0.2), row("pictures", "first stage", "GainRecovered", 0.0)]
    example = Example("which <b>word</b>?", {"first stage": [("no", 0.0, "")], "clever": [("yes", 1.0, "it rhymes")]})
    return render(
        Page(
            "A report",
            [Section("words", "Words", rows, [example]), Section("pictures", "Pictures", other)],
            {"command": "rerank ablate x.yaml"},
        )
    )


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        opened = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def opened(browser, tmp_path):
    (tmp_path / "r.html").write_text(page())
    tab = browser.new_page()
    asked: list[str] = []
    errors: list[str] = []
    tab.on("request", lambda r: asked.append(r.url))
    tab.on("pageerror", lambda e: errors.append(str(e)))
    tab.goto((tmp_path / "r.html").as_uri())
    yield tab
    assert [u for u in asked if not u.startswith("file:")] == [], "no network"
    assert errors == []
    tab.close()


def systems(tab):
    return tab.locator("#d-words tbody tr:visible th").all_inner_texts()


def test_heads_sort_by_mouse_and_by_keyboard(opened):
    head = opened.locator("#d-words th button", has_text="MRR@10")
    head.click()
    assert systems(opened) == ["clever", "slow", "first stage"]
    head.focus()
    opened.keyboard.press("Enter")
    assert systems(opened) == ["first stage", "slow", "clever"]
    assert head.locator("xpath=..").get_attribute("aria-sort") == "ascending"


def test_the_filter_hides_rows_and_says_how_many(opened):
    opened.get_by_label("Show rows with").fill("slow")
    assert systems(opened) == ["slow"]
    assert "rows" in opened.locator("#shown").inner_text()


def test_examples_open_and_text_is_text(opened):
    opened.keyboard.press("Tab")
    summary = opened.locator("summary")
    assert summary.inner_text() == "which <b>word</b>?"
    summary.focus()
    opened.keyboard.press("Enter")
    assert opened.get_by_text("it rhymes").is_visible()
    assert opened.locator("li.good").inner_text().startswith("yes")


def test_the_matrix_puts_domains_side_by_side(opened):
    cells = opened.locator("#matrix tbody tr", has_text="clever").locator("td b").all_inner_texts()
    assert cells == ["0.700", "0.200"]


def test_marks_and_provenance(opened):
    clever = opened.locator("#d-words tr", has_text="clever").locator("td").first
    assert "*" in clever.inner_text()
    assert opened.get_by_text("rerank ablate x.yaml").is_visible()


def test_it_fits_a_phone(browser, tmp_path):
    (tmp_path / "r.html").write_text(page())
    tab = browser.new_page(viewport={"width": 360, "height": 640})
    tab.goto((tmp_path / "r.html").as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360, "wide tables scroll inside themselves"
    picture = tab.screenshot()
    assert len(picture) > 5000
    tab.close()
