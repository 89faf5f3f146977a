"""The pages are accessible: keyboard, screen reader, dark mode, phone; in English and Chinese."""

import json
import re

import pytest
from playwright.sync_api import expect

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture(params=["en", "zh"])
def any_site(request, site, chinese_site):
    return site if request.param == "en" else chinese_site


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("options", [{}, PHONE], ids=["desk", "phone"])
def test_the_chat_page_is_accessible(any_site, visit, scheme, options):
    visitor = visit(any_site.url, color_scheme=scheme, **options)
    page = visitor.page
    assert not visitor.findings()
    visitor.ask("Show `code` and **more**\n\n```python\nprint(1)\n```")
    assert not visitor.findings()
    page.keyboard.press("Escape")
    if options:
        page.locator("#right .toggle-button").click()
    page.locator("#delete").click()
    expect(page.locator("#confirm-delete")).to_be_visible()
    assert not visitor.findings()
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_runs_page_is_accessible(any_site, visit, scheme):
    folder = any_site.runs / f"seen in the {scheme}"
    folder.mkdir(parents=True)
    record = {"stage": "pretrain", "state": "finished", "created": f"2029{scheme}", "config": {"lr": 0.1}}
    (folder / "run.json").write_text(json.dumps(record))
    rows = ({"step": step, "loss": 4 - step, "sample": "Once"} for step in (1, 2))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    visitor = visit(f"{any_site.url}/runs", "#run-view figure", color_scheme=scheme)
    assert not visitor.findings()
    visitor.page.set_viewport_size({"width": 390, "height": 844})
    visitor.page.wait_for_timeout(300)
    assert not visitor.findings()
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_login_page_is_accessible(locked_site, visit, scheme):
    visitor = visit(locked_site.url, "#key", color_scheme=scheme)
    assert not visitor.findings()
    visitor.page.locator("#key").fill("wrong")
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.get_by_role("alert")).to_be_visible()
    assert not visitor.findings()


def test_by_keyboard_only(site, visit):
    visitor = visit(site.url)
    page = visitor.page
    visitor.settings(max_tokens="12")
    visitor.box.focus()
    page.keyboard.type("typed")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("twice")
    page.keyboard.press("Enter")
    visitor.answer()
    expect(visitor.questions.first).to_have_attribute("aria-label", re.compile("typed.*twice", re.DOTALL))
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.closest('[id]')?.id"))
    assert {"new", "search", "history", "title", "delete", "question", "temperature", "system"} <= reached
