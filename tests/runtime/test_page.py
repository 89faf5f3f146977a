"""Reports: nothing in them acts, everything in them is readable."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from qianwen.runtime.page import MAX_KINDS, MAX_UNFOLDED, Card, Page, new_axes

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</pre></style><svg/onload=alert(1)>",
    "javascript:alert(1)",
    "<!--",
    "&lt;b&gt;",
    "\x00\x1b[31m\x85",
    "\ud800 lone",
    "</title><base href=//evil>",
]
ALLOWED = (
    "html head meta title style body header h1 h2 p nav ol li a main section dl div dt dd table thead tbody tr th td"
)
ALLOWED += " pre figure picture source img figcaption h3 details summary input label"


class Reader(HTMLParser):
    """Collects tags, attributes and text as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def full_page(word: str) -> Page:
    page = Page(word, "en")
    for _ in range(3):
        page.section(word)
    page.paragraph(word)
    page.headline({word: word})
    page.table([word, "n"], [[word, 1], [None, 2.5]])
    page.text(word)
    page.links({word: word})
    page.cards({word: word}, [Card(word, word, [(word, word), (word, word * MAX_UNFOLDED)])])
    figure, (axes,) = new_axes()
    axes.plot([1, 2], label="</svg><script>alert(1)</script>" if "<" in word else "loss 中文")
    axes.legend()
    page.figure(figure, word)
    return page


@pytest.mark.parametrize("word", HOSTILE)
def test_nothing_hostile_becomes_markup(word):
    text = full_page(word).html()
    text.encode("utf-8")
    reader = Reader(text)
    assert {tag for tag, _ in reader.tags} <= set(ALLOWED.split())
    attributes = [(name, value or "") for _, attrs in reader.tags for name, value in attrs.items()]
    assert not [name for name, _ in attributes if name.startswith("on") or name in ("style", "srcdoc", "action")]
    assert all(
        v.startswith(("#s", "./", "data:image/svg+xml;base64,"))
        for n, v in attributes
        if n in ("href", "src", "srcset")
    )
    assert not set("\x00\x1b\x85") & set(text)


def test_the_policy_allows_the_one_style_sheet_and_no_script():
    text = full_page("x").html()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    style = re.search(r"<style>(.*?)</style>", text, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'"


def test_a_screen_reader_finds_language_headings_and_figures():
    page = full_page("Losses")
    tags = Reader(page.html()).tags
    assert tags[0] == ("html", {"lang": "en"})
    assert [tag for tag, _ in tags if tag in ("h1", "h2")] == ["h1", "h2", "h2", "h2"]
    assert all(attrs["alt"] == "Losses" for tag, attrs in tags if tag == "img")
    assert all(attrs["scope"] == "col" for tag, attrs in tags if tag == "th")
    targets = {attrs.get("id") for tag, attrs in tags if tag == "h2"}
    links = {attrs["href"] for tag, attrs in tags if tag == "a"}
    assert links == {"./Losses", *(f"#{target}" for target in targets)}


def test_numbers_are_set_right_and_readable():
    page = Page("t")
    page.table(["name", "loss", "tokens"], [["a", 2.34567, 1_234_567], ["b", None, 12345.6]])
    text = page.html()
    assert '<td class="number">2.346</td><td class="number">1,234,567</td>' in text
    assert '<td class="number"></td><td class="number">12,346</td>' in text
    with pytest.raises(ValueError, match="zip"):
        page.table(["a"], [["b", "c"]])


def test_figures_are_drawn_for_light_and_dark_with_the_readers_fonts():
    page = Page("t")
    figure, (axes,) = new_axes()
    axes.set_title("损失")
    page.figure(figure, "损失")
    drawings = [base64.b64decode(data).decode() for data in re.findall(r"base64,([^\"]+)\"", page.html())]
    assert len(drawings) == 2 and drawings[0] != drawings[1]
    assert all("损失</text>" in drawing for drawing in drawings)


def test_a_chinese_page_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("QIANWEN_LANG", "zh")
    Page("报告").write(tmp_path / "报告.html")
    assert '<html lang="zh-Hans">' in (tmp_path / "报告.html").read_text(encoding="utf-8")


def test_cards_are_filtered_by_the_style_sheet():
    page = Page("x", "en")
    for _ in range(2):
        page.cards({"right": "right (1)", "wrong": "wrong (2)"}, [Card("wrong", "t", []), Card("right", "t", [])])
    text = page.html()
    tags = Reader(text).tags
    inputs = [attrs for tag, attrs in tags if tag == "input"]
    assert [attrs["name"] for attrs in inputs] == ["f1"] * 3 + ["f2"] * 3
    assert ["checked" in attrs for attrs in inputs] == [True, False, False] * 2, "all cards at first"
    assert [attrs["for"] for tag, attrs in tags if tag == "label"] == [attrs["id"] for attrs in inputs]
    assert [attrs["class"] for tag, attrs in tags if tag == "details"] == ["card k2", "card k1"] * 2
    for number in range(1, MAX_KINDS + 1):
        assert f".cards > .k{number}:checked ~ .card:not(.k{number})" in text


def test_further_filters_have_their_own_buttons_and_classes():
    page = Page("x", "en")
    page.cards({"a": "A", "b": "B"}, [Card("b", "t", [], ["z"])], [{"y": "Y", "z": "Z"}])
    tags = Reader(page.html()).tags
    inputs = [attrs for tag, attrs in tags if tag == "input"]
    assert [(attrs["name"], attrs["class"]) for attrs in inputs] == [
        *(("f1", name) for name in ("k0", "k1", "k2")),
        *(("f2", name) for name in ("k0", "k3", "k4")),
    ]
    assert [attrs["class"] for tag, attrs in tags if tag == "details"] == ["card k2 k4"]


def test_a_long_part_of_a_card_is_folded():
    page = Page("x", "en")
    page.cards({"a": "a"}, [Card("a", "t", [("short", "s"), ("long", "x" * (MAX_UNFOLDED + 1))])])
    text = page.html()
    assert "<h3>short</h3>" in text and f"<summary>long ({MAX_UNFOLDED + 1:,} characters)</summary>" in text
