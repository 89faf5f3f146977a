"""After an error the page shows a message, loses nothing, and continues when it can."""

import re

from playwright.sync_api import expect


def test_the_server_stops_during_an_answer_and_comes_back(weak_site, visit):
    visitor = visit(weak_site.url)
    visitor.ask("before")
    visitor.settings(max_tokens="900")
    visitor.send("in the middle of this")
    expect(visitor.answers.nth(1)).to_have_text(re.compile("[a-z]{5,}"))
    weak_site.kill()
    toast = visitor.page.locator(".toast-wrap")
    expect(toast).to_contain_text("The server does not respond")
    visitor.box.fill("typed while nobody answers")
    weak_site.start()
    expect(toast).to_be_hidden()
    expect(visitor.box).to_have_value("typed while nobody answers")
    expect(visitor.title).to_have_value("before")
    expect(visitor.questions).to_have_count(2)
    expect(visitor.answers).to_have_count(2)
    assert visitor.note() == "This answer was interrupted." and visitor.answer()
    visitor.settings(max_tokens="5")
    visitor.press_option("Continue")
    expect(visitor.answers.nth(1)).to_contain_text("maximum length")
    assert visitor.ask("after")


def test_the_server_stops_before_a_question(weak_site, visit):
    visitor = visit(weak_site.url)
    weak_site.kill()
    visitor.box.fill("is anybody there")
    visitor.box.press("Enter")
    expect(visitor.page.locator(".toast-wrap")).to_contain_text("The server does not respond")
    weak_site.start()
    expect(visitor.page.locator(".toast-wrap")).to_be_hidden()
    expect(visitor.box).to_have_value("is anybody there")
    visitor.settings(max_tokens="12")
    visitor.send("is anybody there")
    assert visitor.answer()


def test_the_queue_is_full(weak_site, visit):
    first, second = visit(weak_site.url), visit(weak_site.url)
    first.settings(max_tokens="900")
    first.send("a long one")
    expect(first.answers.first).to_be_visible()
    second.settings(max_tokens="12")
    second.box.fill("one too many")
    second.box.press("Enter")
    second.page.keyboard.type("typed since")
    expect(second.page.locator(".toast-wrap")).to_contain_text("the queue is full")
    expect(second.box).to_have_value("one too many\ntyped since")
    second.box.fill("one too many")
    expect(second.greeting).to_be_visible()
    first.stop_button.click()
    first.answer()
    second.box.press("Enter")
    expect(second.answers.first).to_be_visible()
    assert second.answer()


def test_two_windows_of_one_user_agree(site, visit):
    first = visit(site.url)
    first.ask("told in one window")
    second = first.page.context.new_page()
    second.goto(first.page.url)
    expect(second.locator("#chat [data-testid=user]")).to_contain_text("told in one window")
    second.locator("#delete").click()
    second.locator("#confirm-delete").click()
    expect(second.get_by_text("What would you like to know?")).to_be_visible()
    first.box.fill("and asked again in the other")
    first.box.press("Enter")
    expect(first.questions).to_have_text(["and asked again in the other"])  # its conversation is gone: a new one begins
    assert first.answer()


def test_leaving_an_unfinished_answer_stops_and_saves_it(site, visit):
    visitor = visit(site.url)
    visitor.settings(max_tokens="900")
    visitor.send("left alone")
    expect(visitor.answers.first).to_have_text(re.compile("[a-z]{5,}"))
    visitor.page.locator("#new").click()
    expect(visitor.greeting).to_be_visible()
    site.wait_until_idle()
    expect(visitor.history.filter(has_text="left alone")).to_be_visible()
    expect(visitor.greeting).to_be_visible()
    expect(visitor.page.locator("#question .submit-button")).to_be_visible()
    visitor.history.filter(has_text="left alone").click()
    assert 5 <= len(visitor.answer()) < 900


def test_a_question_sent_during_an_answer_is_answered_after_it(site, visit):
    visitor = visit(site.url)
    visitor.settings(max_tokens="80")
    visitor.send("the first")
    visitor.box.fill("the second")
    visitor.box.press("Enter")
    expect(visitor.box).to_have_value("")
    expect(visitor.answers).to_have_count(2)
    visitor.answer()
    assert [text.strip() for text in visitor.questions.all_inner_texts()] == ["the first", "the second"]
    visitor.box.press("Enter")  # an empty question is not sent
    assert visitor.ask("the third") and visitor.questions.count() == 3


def test_a_question_sent_at_any_moment_is_answered(site, visit):
    """Typing updates the meter; the end of that request must not be taken for the end of the answer."""
    visitor = visit(site.url)
    visitor.settings(max_tokens="2")
    for number in range(15):
        visitor.box.fill(f"question {number}")
        visitor.page.wait_for_timeout(7 * number)  # each round sends at another moment
        visitor.box.press("Enter")
        expect(visitor.answers).to_have_count(number + 1)
        visitor.answer()


def test_text_typed_right_after_enter_stays(site, visit):
    visitor = visit(site.url)
    visitor.settings(max_tokens="40")
    for number in range(5):
        visitor.box.fill(f"question {number}")
        visitor.box.press("Enter")
        visitor.page.keyboard.type("and then", delay=15 * number)
        expect(visitor.answers).to_have_count(number + 1)
        visitor.answer()
        expect(visitor.box).to_have_value("and then")
    assert [text.strip() for text in visitor.questions.all_inner_texts()] == [f"question {n}" for n in range(5)]
