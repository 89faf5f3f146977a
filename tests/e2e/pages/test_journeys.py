"""The twelve things that users do on the pages, each by a new user."""

import json
import re

import pytest
from playwright.sync_api import expect

from qianwen.runtime.files import lock
from qianwen.serve.ui.text import from_markdown


def test_ask_and_watch_the_answer_grow(site, visit):
    visitor = visit(site.url)
    expect(visitor.greeting).to_be_visible()
    expect(visitor.box).to_be_focused()
    visitor.settings(max_tokens="500")
    visitor.send("What does <div> do?")
    expect(visitor.answers.first).to_have_text(re.compile("^[a-z]{5,}"))
    expect(visitor.stop_button).to_be_visible()
    early = len(visitor.answers.first.inner_text())
    assert re.fullmatch("[a-z]{500}", visitor.answer()) and early < 500
    expect(visitor.questions.first).to_contain_text("What does <div> do?")
    expect(visitor.history.first).to_have_text("What does <div> do?")


def test_stop_an_answer(site, visit):
    visitor = visit(site.url)
    visitor.settings(max_tokens="900")
    for stop in (visitor.stop_button.click, lambda: visitor.page.keyboard.press("Escape")):
        visitor.send("go on and on")
        expect(visitor.answers.first).to_have_text(re.compile("[a-z]{5,}"))
        stop()
        text = visitor.answer()
        assert 5 < len(text) < 900
        site.wait_until_idle()
        assert visitor.answer() == text, "nothing more comes"
        assert visitor.note() == "You stopped this answer."
        visitor.page.locator("#new").click()
        expect(visitor.greeting).to_be_visible()


def test_regenerate_an_answer(site, visit):
    visitor = visit(site.url)
    first = visitor.ask(temperature="2")
    visitor.page.locator("#chat button[aria-label=Retry]").last.click()
    expect(visitor.answers.last).not_to_contain_text(first)
    assert visitor.answer().strip() and visitor.answers.count() == 1


def test_continue_an_answer_that_was_stopped_and_ask_again(site, visit):
    visitor = visit(site.url)
    visitor.settings(max_tokens="900")
    visitor.send("go on and on")
    expect(visitor.answers.first).to_have_text(re.compile("[a-z]{5,}"))
    visitor.stop_button.click()
    stopped = visitor.answer()
    visitor.settings(max_tokens="7")
    visitor.press_option("Continue")
    expect(visitor.answers.first).to_contain_text("maximum length")
    assert visitor.answer().startswith(stopped) and len(visitor.answer()) == len(stopped) + 7
    visitor.page.reload()
    visitor.page.wait_for_selector("#chat [data-testid=bot]")
    assert len(visitor.answer()) == len(stopped) + 7
    visitor.settings(max_tokens="9")
    visitor.press_option("Try again")
    expect(visitor.answers.first).to_have_text(re.compile("^[a-z]{9}\\s"))
    assert visitor.answers.count() == 1


def test_edit_a_question(site, visit):
    visitor = visit(site.url)
    visitor.ask("first <b>")
    visitor.ask("second")
    visitor.page.locator("#chat button[aria-label=Edit]").first.click()
    box = visitor.page.locator("#chat textarea")
    assert from_markdown(box.input_value()) == "first <b>"
    assert box.bounding_box()["width"] > 0.8 * visitor.answers.first.bounding_box()["width"], "as wide as the text"
    box.fill("changed <i>")
    visitor.page.locator("#chat button[aria-label=Submit]").click()
    expect(visitor.questions.first).to_contain_text("changed <i>")
    visitor.answer()
    assert visitor.questions.count() == 1, "what came after the question is gone"


def test_give_a_system_prompt(site, visit):
    visitor = visit(site.url)
    plain = visitor.ask("who are you")
    visitor.page.locator("#new").click()
    expect(visitor.answers).to_have_count(0)
    assert visitor.ask("who are you", system="You are a pirate.") != plain
    visitor.page.reload()
    visitor.history.first.click()
    expect(visitor.page.locator("#system textarea")).to_have_value("You are a pirate.")


def test_set_sampling_parameters(site, visit):
    answers = []
    for temperature, seed in (("0", ""), ("0", ""), ("2", "1"), ("2", "1"), ("2", "2")):
        visitor = visit(site.url)
        answers.append(visitor.ask("draw", temperature=temperature, seed=seed))
        visitor.page.context.close()
    assert answers[0] == answers[1], "temperature 0 repeats itself"
    assert answers[2] == answers[3], "so does a seed"
    assert len(set(answers)) == 3


def test_see_how_full_the_context_is(site, visit):
    visitor = visit(site.url)

    def used() -> int:
        return int(visitor.meter.inner_text().split()[0].replace(",", ""))

    expect(visitor.meter).to_contain_text("0 of 1,024 tokens")
    visitor.box.fill("x" * 400)
    expect(visitor.meter).not_to_contain_text("0 of 1,024")
    drafted = used()
    assert drafted > 400
    visitor.box.fill("x" * 900)
    expect(visitor.meter).to_contain_text("nearly full")
    visitor.box.fill("x" * 1200)
    expect(visitor.meter).to_contain_text("too long for this model")
    visitor.box.press("Enter")
    expect(visitor.page.locator(".toast-wrap")).to_contain_text("context length is 1024 tokens")
    expect(visitor.box).to_have_value("x" * 1200)
    visitor.ask("short")
    expect(visitor.meter).to_have_class("low")
    assert 60 < used() < drafted


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", "beyond the trained 1,024 tokens: extended by dynamic NTK; quality is measured up to 8×"),
        ("zh", "超过训练长度 1,024 个 token：由动态 NTK 扩展；质量测到 8 倍"),
    ],
)
def test_see_that_a_conversation_is_longer_than_the_trained_length(open_site, visit, language, words):
    visitor = visit(open_site(language, "--extended").url)
    visitor.ask("short")
    note = visitor.page.locator("#meter .beyond")
    expect(note).to_have_count(0)
    visitor.ask("x" * 1100)
    expect(note).to_have_text(words)
    expect(visitor.meter).to_have_class("low")
    visitor.page.reload()
    expect(note).to_have_text(words)
    assert not visitor.findings()


def test_find_a_conversation_after_a_restart(weak_site, visit):
    visitor = visit(weak_site.url)
    visitor.ask("something else")
    visitor.page.locator("#new").click()
    expect(visitor.greeting).to_be_visible()
    answer = visitor.ask("remember the turquoise elephant")
    visitor.page.context.close()
    weak_site.stop()
    weak_site.start()
    visitor = visit(weak_site.url, "#search")
    visitor.page.locator("#search input, #search textarea").first.fill("turquoise")
    expect(visitor.history).to_have_count(1)
    visitor.history.click()
    expect(visitor.questions.first).to_contain_text("remember the turquoise elephant")
    assert visitor.answer() == answer
    assert visitor.ask("and go on") and visitor.answers.count() == 2


def test_rename_and_delete_a_conversation(site, visit):
    visitor = visit(site.url)
    visitor.ask("to be renamed")
    visitor.title.fill("A better <i>name</i>")
    visitor.title.press("Enter")
    expect(visitor.history.first).to_have_text("A better <i>name</i>")
    visitor.page.reload()
    visitor.history.filter(has_text="A better").click()
    expect(visitor.title).to_have_value("A better <i>name</i>")
    visitor.page.locator("#delete").click()
    visitor.page.locator("#confirm-delete").click()
    expect(visitor.greeting).to_be_visible()
    expect(visitor.history.filter(has_text="A better")).to_have_count(0)


def test_watch_a_loss_curve_grow_while_a_run_trains(site, visit):
    folder = site.runs / "live"
    folder.mkdir(parents=True)
    record = {"stage": "pretrain", "state": "running", "created": "2026-01-01T00:00:00+0000", "config": {}}
    (folder / "run.json").write_text(json.dumps(record))

    def log(*steps: int) -> None:
        rows = ({"step": step, "loss": 4 - step / 100, "sample": f"At step {step}"} for step in steps)
        with (folder / "metrics.jsonl").open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    log(10, 20)
    with lock(folder):  # as the process of a run that trains
        visitor = visit(site.url)
        visitor.page.locator("#to-runs").click()
        visitor.history.filter(has_text="live").click()
        curve = visitor.page.locator("#run-view figure img")
        expect(curve).to_have_attribute("alt", "loss over steps; last value 3.8")
        before = curve.get_attribute("src")
        log(30, 40, 50)
        expect(curve).to_have_attribute("alt", "loss over steps; last value 3.5")
        assert curve.get_attribute("src") != before and curve.evaluate("i => i.complete && i.naturalWidth > 0")
        expect(visitor.page.locator("#run-view pre").first).to_have_text("At step 50")
        expect(visitor.history.filter(has_text="live")).to_contain_text("running")


def test_the_address_of_a_run_opens_it_again(site, visit):
    for name in ("older run", "newer run"):
        folder = site.runs / name
        folder.mkdir(parents=True)
        record = {"stage": "sft", "state": "finished", "created": f"2026-02-0{len(name)}", "config": {}}
        (folder / "run.json").write_text(json.dumps(record))
    visitor = visit(f"{site.url}/runs", "#run-view h2")
    visitor.history.filter(has_text="older run").click()
    title = visitor.page.locator("#run-view h2")
    expect(title).to_have_text("older run")
    expect(visitor.page).to_have_url(f"{site.url}/runs?open=older%20run")
    visitor.page.reload()
    expect(title).to_have_text("older run")
    expect(visitor.page).to_have_url(f"{site.url}/runs?open=older%20run")


def test_read_everything_in_chinese(chinese_site, visit):
    visitor = visit(chinese_site.url)
    page = visitor.page
    assert page.locator("html").get_attribute("lang").startswith("zh")
    visitor.ask("你好")
    expect(page.locator("#new")).to_have_text("新对话")
    expect(page.locator("#chat button[aria-label=编辑]").first).to_be_attached()
    page.locator(".message-content").evaluate_all(
        "all => all.forEach(element => element.remove())"
    )  # text of the model is not translated
    said = page.evaluate(
        """[...document.querySelectorAll('button, label, [placeholder], [aria-label], [title], h1, h2, p')].flatMap(
             e => [e.placeholder, e.title, e.getAttribute('aria-label'), e.children.length ? '' : e.innerText])"""
    )
    english = {words for words in said if words and re.search("[A-Za-z]{3}", words)}
    names = {"qianwen", "letters", "Top p", "Top k"}
    assert {words for words in english if not re.search("[\u4e00-\u9fff]", words)} <= names


def test_log_in_with_a_key(locked_site, visit):
    visitor = visit(locked_site.url, "#key")
    page = visitor.page
    assert page.url.endswith("/login")
    page.locator("#key").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    page.locator("#key").fill(locked_site.keys[0])
    page.keyboard.press("Enter")
    page.wait_for_selector("#meter label")
    assert visitor.ask("hello")
    assert page.evaluate("document.cookie") == "", "scripts cannot read it"
    assert visit(locked_site.url, "#key").page.url.endswith("/login")
    page.locator("#to-login").click()
    page.get_by_role("button").click()
    page.wait_for_selector("#key")
    page.goto(locked_site.url)
    assert page.url.endswith("/login")
