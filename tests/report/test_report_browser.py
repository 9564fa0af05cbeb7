"""The page in a real browser: it sorts, opens an episode, shows what was said, and fits every screen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homeostasis_gym.collapse import score
from homeostasis_gym.report import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

# A browser's child processes may outlive the call that closes it by a moment.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium on the path (install the distribution's package, or set CHROMIUM)")
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page_file(tmp_path: Path, compared: Any) -> Path:
    return write_report(tmp_path, {"seed": 1}, compared, score(compared))


@pytest.fixture
def view(chromium: Any, page_file: Path) -> Iterator[Any]:
    """Opens the page at a size and in a colour scheme; fails on any error or request."""
    troubles: list[str] = []
    contexts = []

    def opened(width: int = 1280, height: int = 900, scheme: str = "light") -> Any:
        context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text))
        page.on("request", lambda r: None if r.url.startswith("file:") else troubles.append(r.url))
        page.goto(page_file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert troubles == []


def first_column(page: Any) -> list[str]:
    return [text.strip() for text in page.locator("table.sortable tbody td:first-child").all_inner_texts()]


def test_table_sorts_both_ways_with_the_keyboard_too(view):
    page = view()
    before = first_column(page)
    heading = page.locator("th button", has_text="flip rate")
    heading.click()
    assert page.locator("th[aria-sort=ascending]").count() == 1
    assert first_column(page)[-1].startswith("model")
    heading.focus()
    page.keyboard.press("Enter")
    assert page.locator("th[aria-sort=descending]").count() == 1
    assert first_column(page)[0].startswith("model")
    page.locator("th button", has_text="median onset").click()
    assert first_column(page)[0].startswith("model")  # unknown medians stay last
    assert sorted(first_column(page)) == sorted(before)


def test_step_by_step_with_transcript(view, evil):
    page = view()
    page.locator("section[id^=agent-]").last.locator("button.episode").first.click()
    dialog = page.locator("dialog")
    assert dialog.is_visible()
    assert "flip; onset at step" in dialog.locator(".said").inner_text()
    page.keyboard.press("PageUp")
    page.keyboard.press("PageUp")
    assert dialog.locator("output").inner_text() == "step 1 of 100"
    page.keyboard.press("ArrowRight")
    dialog.locator(".on").click()
    assert dialog.locator("output").inner_text() == "step 3 of 100"
    assert dialog.locator("pre.prompt").first.inner_text().startswith("prompt 3 </script><script>")
    assert dialog.locator("pre.refused").inner_text() == "refused 3"
    assert dialog.locator("pre.reply").last.inner_text().startswith("reply 3 </script>")
    box = dialog.locator("svg").bounding_box()
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 60)
    step = int(dialog.locator("output").inner_text().split()[1])
    assert 65 <= step <= 85
    assert dialog.locator("pre.prompt").first.inner_text().startswith(f"prompt {step} ")
    assert page.evaluate("window.hacked") is None
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_fits_the_screen(view, scheme, width):
    page = view(width, 800, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("button.episode").first.click()
    box = page.locator("dialog").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert page.locator("dialog").evaluate("d => d.scrollWidth <= d.clientWidth")
    # Text in the close view is as large as it says, whatever the screen.
    tall = page.locator("dialog svg text").first.evaluate("t => t.getBoundingClientRect().height")
    assert tall >= 9


def test_the_table_fits_and_keeps_its_names(view):
    page = view(1280)
    region = page.get_by_role("region", name="Table of agents")
    assert region.evaluate("r => r.scrollWidth <= r.clientWidth")
    phone = view(360, 800)
    region = phone.get_by_role("region", name="Table of agents")
    region.evaluate("r => r.scrollTo(r.scrollWidth, 0)")
    name = region.locator("tbody td").first.bounding_box()
    assert name["x"] >= region.bounding_box()["x"] - 1  # the names stay when the rest is scrolled
    assert name["width"] <= 180


def test_an_imported_log_is_named(tmp_path, compared, chromium):
    runs = [
        replace(t, header=replace(t.header, extra={"file": f"log-{k}.tsv"})) for k, t in enumerate(compared)
    ]
    page = chromium.new_page()
    page.goto(write_report(tmp_path, {}, runs, score(runs)).as_uri())
    assert "log-0.tsv" in page.locator("button.episode").first.inner_text()
    page.locator("button.episode").first.click()
    assert "Log: log-0.tsv." in page.locator("dialog .said").inner_text()
    page.close()


def luminance(rgb: str) -> float:
    parts = [float(v) / 255 for v in rgb[rgb.index("(") + 1 : -1].split(",")[:3]]
    linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(view, scheme):
    page = view(scheme=scheme)
    paper = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (paper > 0.5) is (scheme == "light")
    for selector in ("body", ".soft", "a", ".verdict.flip", ".verdict.ok", ".verdict.mild"):
        ink = luminance(page.locator(selector).first.evaluate("e => getComputedStyle(e).color"))
        contrast = (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05)
        assert contrast >= 4.5, (selector, contrast)
    for selector in (".figure .o0", ".figure .o1", ".onset-line"):
        ink = luminance(page.locator(selector).first.evaluate("e => getComputedStyle(e).stroke"))
        contrast = (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05)
        assert contrast >= 3.0, (selector, contrast)


def test_figures_are_there_without_scripts(chromium, page_file):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert page.locator("svg.figure").count() > 12
    assert page.locator("noscript").count() == 1
    context.close()
