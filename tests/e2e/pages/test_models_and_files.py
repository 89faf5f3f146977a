"""Several models, files, exports and links: what a conversation can be made with, and what can be made of it."""

import json
import re

from playwright.sync_api import expect


def test_choose_a_model_in_the_conversation(two_models_site, visit):
    visitor = visit(two_models_site.url)
    assert re.match("[a-z]{12}", visitor.ask("hello"))
    visitor.choose("model", "digits")
    assert re.match("[0-9]{12}", visitor.ask("and you"))
    assert "letters" in visitor.note(0) and "digits" in visitor.note(1), "each answer names its model"
    visitor.page.reload()
    expect(visitor.page.locator("#model input")).to_have_value("digits")


def test_compare_two_models(two_models_site, visit):
    visitor = visit(two_models_site.url)
    visitor.settings()
    visitor.choose("compare", "digits")
    assert re.match("[a-z]{12}", visitor.ask("hello"))
    others = visitor.page.locator("#other [data-testid=bot]")
    expect(others.first).to_have_text(re.compile("[0-9]{12}"))
    boxes = [visitor.page.locator(f"#{side}").bounding_box() for side in ("chat", "other")]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"] + 1 and abs(boxes[0]["y"] - boxes[1]["y"]) < 2
    visitor.ask("again")
    visitor.page.reload()
    expect(others).to_have_count(2)
    visitor.page.set_viewport_size({"width": 390, "height": 844})
    visitor.page.wait_for_timeout(300)
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_attach_files_and_remove_them(site, visit, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("the turquoise elephant " * 4)
    visitor = visit(site.url)
    picker, chips = visitor.page.locator("#attach input"), visitor.page.locator("#files li")
    (tmp_path / "x.bin").write_bytes(b"\0")
    picker.set_input_files([notes, tmp_path / "x.bin"])
    expect(visitor.page.get_by_role("alert")).to_contain_text("x.bin: only text files and PDF")
    expect(chips).to_have_count(1)
    expect(chips.first).to_contain_text("notes.txt (92 characters)")
    expect(visitor.meter).to_contain_text(re.compile(r"\b1\d\d of 1,024"))  # the file counts
    chips.first.get_by_role("button").click()
    expect(chips).to_have_count(0)
    picker.set_input_files(notes)
    expect(chips).to_have_count(1)
    visitor.ask("what is it?")
    expect(chips).to_have_count(0)
    expect(visitor.questions.first).to_contain_text("notes.txt (92 characters)")
    visitor.page.locator("#chat button[aria-label=Edit]").first.click()
    box = visitor.page.locator("#chat textarea")
    box.fill(box.input_value().replace("what is it?", "what was it?"))
    visitor.page.locator("#chat button[aria-label=Submit]").click()
    expect(visitor.questions.first).to_contain_text("what was it?")
    visitor.answer()
    expect(visitor.questions.first).to_contain_text("notes.txt (92 characters)")


def test_a_refused_question_keeps_its_files(site, visit, tmp_path):
    (tmp_path / "long.txt").write_text("x" * 3000)
    visitor = visit(site.url)
    visitor.page.locator("#attach input").set_input_files(tmp_path / "long.txt")
    expect(visitor.page.locator("#files li")).to_contain_text("3,000 characters")
    visitor.box.fill("summarise")
    visitor.box.press("Enter")
    expect(visitor.page.locator(".toast-wrap")).to_contain_text("context length")
    expect(visitor.box).to_have_value("summarise")
    expect(visitor.page.locator("#files li")).to_have_count(1)


def test_export_and_share_a_conversation(site, visit):
    visitor = visit(site.url)
    answer = visitor.ask("to be exported")
    more = visitor.page.locator("#more")
    more.locator("summary").click()
    for kind in ("Markdown", "JSON"):
        with visitor.page.expect_download() as download:
            more.get_by_text(f"Download as {kind}").click()
        text = download.value.path().read_text()
        assert answer in text and "to be exported" in text
        assert kind == "Markdown" or json.loads(text)["messages"][1]["content"] == answer
    more.get_by_text("Share a read-only link").click()
    link = more.get_by_text("Shared link")
    expect(link).to_be_visible()
    address = f"{site.url}{link.get_attribute('href')}"
    reader = visit(address, "article")
    expect(reader.page.locator("article").nth(1)).to_contain_text(answer)
    more.get_by_text("Stop sharing").click()
    expect(link).to_be_hidden()
    assert reader.page.reload().status == 404
