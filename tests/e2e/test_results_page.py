"""The page of an evaluation in a real browser: filters without script, narrow and wide, light and dark."""

import shutil
from pathlib import Path

import pytest

from qianwen.eval.page import write_page

from ..eval.conftest import row, write_results

playwright = pytest.importorskip("playwright.sync_api", reason="the page needs playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.parametrize("width", [380, 1200])
@pytest.mark.parametrize("ground", ["light", "dark"])
def test_filters_hide_what_is_not_chosen(tmp_path: Path, width: int, ground: str) -> None:
    rows = [row(i, i % 3 == 0, prompt=[f"{'long ' * 200} {i}"]) for i in range(12)] + [row(12, None)]
    folder = write_results(tmp_path / "r", {"mmlu": rows, "ceval": rows}, chance=0.25)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(
            viewport={"width": width, "height": 800}, color_scheme=ground, java_script_enabled=False
        )
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(write_page(folder).as_uri())
        first, second = page.locator(".cards").all()
        visible = [first.locator(".card:visible").count()]
        for name in ("wrong (8)", "right (4)", "error (1)", "all"):
            first.get_by_text(name, exact=True).click()
            visible.append(first.locator(".card:visible").count())
        assert visible == [13, 8, 4, 1, 13]
        assert second.locator(".card:visible").count() == 13, "the tasks are filtered one by one"
        first.locator("input").first.focus()
        page.keyboard.press("ArrowRight")
        assert first.locator(".card:visible").count() == 8, "the keyboard chooses too"
        card = first.locator(".card:visible").first
        card.locator("> summary").click()
        assert card.get_by_text("expected answer and other facts").is_visible()
        assert not card.locator("details pre").first.is_visible(), "a long text is folded"
        assert page.locator("body").bounding_box()["width"] == width and complaints == []
        browser.close()
