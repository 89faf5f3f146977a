"""Tags are shown, never parsed; code stays as it is; and what was shown can be read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qianwen.serve.ui.text import meant, shown, shown_answer


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("What does <div> do?", "What does &lt;div> do?"),
        ("</p><!-- a --><?b", "&lt;/p>&lt;!-- a -->&lt;?b"),
        ("a < b && 1 <2", "a < b && 1 <2"),
        ("![x](http://a/b.png)", "&#33;[x](http://a/b.png)"),
        ("wow! [x](y)", "wow! [x](y)"),
        ("`<b>` and <b>", "`<b>` and &lt;b>"),
        ("``a ` <b>`` <b>", "``a ` <b>`` &lt;b>"),
        ("```html\n<b>\n```\n<b>", "```html\n<b>\n```\n&lt;b>"),
        ("```html\n<b>", "```html\n<b>"),  # still being written
        ("~~~\n<b>\n~~~\n<b>", "~~~\n<b>\n~~~\n&lt;b>"),
        ("``` <b> ```", "``` <b> ```"),
        ("a ` b\n\n<b> ` c", "a ` b\n\n&lt;b> ` c"),  # a span does not reach over a paragraph
        ("&lt;b>", "&amp;lt;b>"),
        ("```mermaid\ngraph\n```", "```&mermaid\ngraph\n```"),  # not to be drawn
        ("```&mermaid\ngraph", "```&&mermaid\ngraph"),
        ("AT&T &copy;", "AT&T &copy;"),
    ],
)
def test_known_texts(text: str, markdown: str):
    assert shown(text) == markdown
    assert meant(markdown) == text


@given(st.text(alphabet="a<>&;!/[]()`~\n \\ltmp#3", max_size=60))
def test_shown_text_can_be_read_back(text: str):
    assert meant(shown(text)) == text


@given(st.text(alphabet="ab<>/! \n", max_size=60))
def test_without_code_no_tag_begins(text: str):
    written = shown(text)
    assert not any(before == "<" and after in "ab/!" for before, after in zip(written, written[1:], strict=False))


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("just <b>", "just &lt;b>"),
        ("<think>\nif <a>\nthen\n</think>\n\nso <b>", "> if &lt;a>\n> then\n\nso &lt;b>"),
        ("<think>\nstill", "> still"),  # being thought
        ("<think>\n\n</think>\n\nyes", "yes"),
        ("so <think> is a tag", "so &lt;think> is a tag"),
        ("<think>```\n<b>\n```</think>x", "> ```\n> <b>\n> ```\n\nx"),
    ],
)
def test_thoughts_are_quotations(text: str, markdown: str):
    assert shown_answer(text) == markdown
