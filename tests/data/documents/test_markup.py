"""Prose: what is left of a text in a markup, and that rules for prose then let good documents pass."""

import numpy as np
import pytest

from qianwen.data.curate.rules import RULES, reasons
from qianwen.data.curate.text_statistics import Batch
from qianwen.data.documents.markup import prose_of

LINES = [
    "A list holds values in an order, and any of them can be had by its place.",
    "To add one at the end costs nothing, to put one in front moves all that follow.",
    "That is why a queue is better built with two ends, as the next section shows.",
    "We will see that the cost of each step is small when it is spread over many of them.",
    "Before you go on, try to say what happens when the last value is taken away.",
]
CODE = "```python\n" + "\n".join(f"x = {{{n}: [{n}]}}" for n in range(30)) + "\n```\n"


@pytest.mark.parametrize(
    ("text", "prose"),
    [
        ("plain text\nin two lines", "plain text\nin two lines"),
        ("before\n```\nx = 1\n```\nafter and after", "before\n\nafter and after"),
        ("before\n  ```c\n  x = 1;\n  ```\nafter", "before\n\nafter"),
        ("It goes like this::\n\n    code = 1\n    more()\n\nAnd then on.", "It goes like this:\n\nAnd then on."),
        ("Let $x^2$ be \\emph{small}. % no", "Let x be small. % no"),
        ("We have\n\\begin{align*}\na &= b\n\\end{align*}\nas said before.", "We have\n\nas said before."),
        ("Open ``` only\n\n```\nnever closed", "Open ``` only\n\n```\nnever closed"),
        ("---\ntitle: x\n---\nThe text of it.", "The text of it."),
        ("| a | b |\n|---|---|\n| 1 | 2 |\nSaid in a table of rows.", "Said in a table of rows."),
        ("<div>An element</div> of <!-- hidden -->a page.", "An element of a page."),
        ("a < b and c > d", "a < b and c > d"),
    ],
)
def test_what_is_no_prose_is_left_out(text: str, prose: str) -> None:
    assert prose_of(text) == prose


def test_next_to_no_prose_is_none() -> None:
    assert prose_of("See:\n" + CODE) == "" and prose_of("\n".join(LINES) + "\n" + CODE).startswith(LINES[0])


def test_lines_broken_at_a_margin_are_joined_and_lists_are_not() -> None:
    long = "A sentence that was broken at the margin of the page\nwhere it went on."
    assert prose_of(long) == long.replace("\n", " ")
    items = "- an item of a list that is as long as a line can well be, and more\n- another item"
    assert prose_of(items) == items


def test_a_tutorial_passes_the_rules_and_rubbish_in_fences_does_not() -> None:
    tutorial = "\n\n".join(f"{line}\n\n{CODE}" if number % 2 else line for number, line in enumerate(LINES))
    rubbish = "# Links\n\n" + "\n".join(f"* [page {n}](http://x/{n})" for n in range(60))
    texts = [prose_of(tutorial), prose_of(rubbish)]
    found = reasons(Batch(texts, ["en", "en"], ["docs", "docs"]), tuple(RULES))
    assert np.array([drop[0] for drop in found.values()]).sum() == 0
    assert found["gopher_bullets"][1]


@pytest.mark.parametrize("size", [200_000])
def test_marks_that_never_close_cost_little(size: int) -> None:
    for opening in ("$", "<a ", "```\n", "\\begin{align}", "\\label{", "\\(", "{%", "$$", "<!--", "--><!--", "::\n\n "):
        assert len(prose_of(opening * (size // len(opening)))) <= size
