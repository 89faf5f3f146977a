"""Tags are displayed and never parsed, code stays unchanged, and the original text can be restored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from qianwen.serve.ui.text import from_markdown, split_thought, thought_to_markdown, to_markdown, with_note


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
        ("```html\n<b>", "```html\n<b>"),  # a fence that is not closed yet
        ("~~~\n<b>\n~~~\n<b>", "~~~\n<b>\n~~~\n&lt;b>"),
        ("``` <b> ```", "``` <b> ```"),
        ("a ` b\n\n<b> ` c", "a ` b\n\n&lt;b> ` c"),  # a code span ends with its line
        ("a ` b\n<b> ` c", "a ` b\n&lt;b> ` c"),
        ("x ` b\ny `<b>` <b>", "x &#96; b\ny &#96;&lt;b>&#96; &lt;b>"),  # unclear which backticks belong together
        (
            "- ```\n  a\n  ```\n<b>",
            "- &#96;&#96;&#96;\n  a\n  &#96;&#96;&#96;\n&lt;b>",
        ),  # the list ends the fence
        ("> ```\n<b>\n```", "> ```\n&lt;b>\n```"),
        ("1. a:\n   ```\n   <b>\n   ```\n", "1. a:\n   ```\n   <b>\n   ```\n"),
        ("- ~~~mermaid\n  a\n  ~~~", "- ~~~&mermaid\n  a\n  ~~~"),
        ("| `<b>` | bold |\n|---|---|", "| `<b>` | bold |\n|---|---|"),
        ("| a |\n|---|\n| `x | <b>` |", "| a |\n|---|\n| &#96;x | &lt;b>&#96; |"),  # a cell also ends inside code
        ("&#96;<b>&#126;", "&amp;#96;&lt;b>&amp;#126;"),
        ("&lt;b>", "&amp;lt;b>"),
        ("```mermaid\ngraph\n```", "```&mermaid\ngraph\n```"),  # must not be drawn
        ("```&mermaid\ngraph", "```&&mermaid\ngraph"),
        ("AT&T &copy;", "AT&T &copy;"),
    ],
)
def test_known_texts(text: str, markdown: str):
    assert to_markdown(text) == markdown
    assert from_markdown(markdown) == text


PARTS = [
    "`",
    "``",
    "```",
    "```\n",
    "~~~\n",
    "\n- ",
    "\n> ",
    "\n# ",
    "|",
    "\n|-|\n",
    "\n\n",
    "    ",
    "\\",
    "- ```\n",
    "1. ",
    "a",
]
TAGS = ["<b>", "<img src=x>", "![a](b)", "<x", "</p>", "<!--", "<![CDATA[", "&lt;b>", "[a]: b\n"]


@given(st.lists(st.sampled_from(PARTS + TAGS), max_size=14).map("".join))
def test_a_parser_finds_neither_tags_nor_images(text: str):
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(to_markdown(text))
    inner = [child for token in tokens for child in token.children or ()]
    assert not {token.type for token in (*tokens, *inner)} & {"html_block", "html_inline", "image"}
    assert from_markdown(to_markdown(text)) == text


@given(st.text(alphabet="a<>&;!/[]()`~\n \\ltmp#396126", max_size=60))
def test_the_original_text_is_restored(text: str):
    assert from_markdown(to_markdown(text)) == text


@given(st.text(alphabet="ab<>/! \n", max_size=60))
def test_without_code_no_tag_begins(text: str):
    written = to_markdown(text)
    assert not any(before == "<" and after in "ab/!" for before, after in zip(written, written[1:], strict=False))


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("just <b>", "", "just <b>"),
        ("<think>\nif <a>\nthen\n</think>\n\nso <b>", "if <a>\nthen", "so <b>"),
        ("<think>\nstill", "still", ""),  # reasoning that is not finished
        ("<think>\n\n</think>\n\nyes", "", "yes"),
        ("so <think> is a tag", "", "so <think> is a tag"),
        ("<think>a</think>b</think>c", "a", "b</think>c"),
        ("<think></think>", "", ""),
    ],
)
def test_reasoning_is_separated_from_the_answer(text: str, thought: str, answer: str):
    assert split_thought(text) == (thought, answer)


@pytest.mark.parametrize("thought", ["if <a>", "```\n<b>", "</details><img src=x>", "- ~~~\n  </details>", "> \n\n<x>"])
@pytest.mark.parametrize("is_open", [True, False])
def test_a_thought_is_folded_and_cannot_close_itself(thought: str, is_open: bool):
    tokens = MarkdownIt("commonmark").parse(thought_to_markdown(thought, is_open=is_open) + "the answer")
    blocks = [token.content.strip() for token in tokens if token.type == "html_block"]
    assert [block.partition(">")[0] for block in blocks] == ["<details open" if is_open else "<details", "</details"]
    assert tokens[-2].content == "the answer" and tokens[-2].level == 1, "it is neither a quotation nor code"


@pytest.mark.parametrize(
    "answer", ["", "plain", "```\ncode", "```py\ncode\n```", "~~~\na\n```\n", "- ```\n  a", "> ````\n> ```"]
)
def test_a_note_is_below_the_answer_and_never_code(answer: str):
    tokens = MarkdownIt("commonmark").parse(with_note(to_markdown(answer), "cut <b>"))
    last = [token for token in tokens if token.type == "inline" and "<small>" in token.content]
    assert [token.content for token in last] == ["<small>cut &lt;b&gt;</small>"]
