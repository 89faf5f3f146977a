"""Fine-tune a model from the page: drop a file, see the plan, watch the run, compare, and talk to the result."""

import json
import re

from playwright.sync_api import expect

MINUTE = 60_000


def dialogues(folder):
    rows = [
        {"messages": [{"role": "user", "content": f"Say {n}"}, {"role": "assistant", "content": f"It is {n}"}]}
        for n in range(12)
    ]
    path = folder / "dialogues.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_from_a_file_to_a_chat_with_the_result(site, visit, tmp_path):
    visitor = visit(f"{site.url}/runs", "#to-tune")
    page = visitor.page
    page.locator("#to-tune").click()
    page.wait_for_selector("#dialogues")
    page.locator("#dialogues input").set_input_files(dialogues(tmp_path))
    expect(page.locator("#dialogues output")).to_contain_text("dialogues.jsonl: 12 dialogues")
    plan = page.locator("#plan")
    expect(plan).to_contain_text("full: all weights", timeout=MINUTE)
    expect(plan).to_contain_text(re.compile(r"about [0-9.]+ GB of [0-9.]+ GB free"))
    expect(plan.locator("mark").first).to_contain_text("It is 0")
    page.locator("#tune-epochs input").fill("4")
    page.locator("#tune-name input, #tune-name textarea").first.fill("from the page")
    expect(page.locator("#tune-start")).to_be_enabled(timeout=MINUTE)
    page.wait_for_timeout(1500)
    page.locator("#tune-start").click()
    page.wait_for_url(re.compile("/runs.open=from%20the%20page"), timeout=MINUTE)
    expect(page.locator("#run-view h2")).to_have_text("from the page", timeout=MINUTE)
    expect(page.locator("#run-view")).to_contain_text("finished", timeout=3 * MINUTE)
    table = page.locator("#run-view table.wide")
    expect(table).to_contain_text("It is")
    expect(table.locator("thead")).to_contain_text("before training")
    page.locator("#talk").click()
    page.wait_for_url(re.compile("model=from"), timeout=MINUTE)
    page.wait_for_selector("#meter label")
    expect(page.locator("#model input")).to_have_value("from the page")
    assert visitor.ask("Say 3") and "from the page" in visitor.note()


def test_a_run_is_stopped_and_continued(site, visit, tmp_path):
    visitor = visit(f"{site.url}/tune", "#dialogues")
    page = visitor.page
    page.locator("#dialogues input").set_input_files(dialogues(tmp_path))
    page.locator("#tune-epochs input").fill("100")
    page.locator("#tune-name input, #tune-name textarea").first.fill("long")
    expect(page.locator("#plan")).to_contain_text("full: all weights", timeout=MINUTE)
    page.wait_for_timeout(1500)
    page.locator("#tune-start").click()
    page.wait_for_url(re.compile("/runs.open=long"), timeout=MINUTE)
    expect(page.locator("#stop-run")).to_be_visible(timeout=MINUTE)
    page.locator("#stop-run").click()
    expect(page.locator("#run-view")).to_contain_text(re.compile("interrupted|finished"), timeout=MINUTE)
    if page.locator("#resume-run").is_visible():
        page.locator("#resume-run").click()
        expect(page.locator("#run-view")).to_contain_text(re.compile("running|finished"), timeout=MINUTE)


def test_a_file_that_is_no_dialogue_is_refused(site, visit, tmp_path):
    (tmp_path / "kettle.jsonl").write_text("not a dialogue")
    visitor = visit(f"{site.url}/tune", "#dialogues")
    visitor.page.locator("#dialogues input").set_input_files(tmp_path / "kettle.jsonl")
    expect(visitor.page.locator("#dialogues output")).to_contain_text("kettle.jsonl:")
    expect(visitor.page.locator("#dialogues output")).to_have_class("problem")
    expect(visitor.page.locator("#tune-start")).to_be_disabled()
