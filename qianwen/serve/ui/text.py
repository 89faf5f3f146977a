"""Text that people and models wrote, made ready for a page.

Gradio turns Markdown into HTML and then removes what could act. That would also remove `<div>` from a question about
HTML, so outside of code every `<` that could begin a tag is written as a character reference: tags are shown and never
parsed. Images become links, because a page that fetches what a model names tells its server who reads it; and diagrams
stay code, because their styles may name something to fetch, too.

Where code begins and ends is guessed, because only a whole parser knows: a list or a quotation may end it, or a tick on
the line before. So the result is parsed, and if a tag or an image came out of it, or parsers are known to differ, the
text is shown without any code.

`shown` can be undone: `meant(shown(text)) == text`, which is what editing a shown question needs.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from markdown_it import MarkdownIt

CODE = re.compile(
    r"^ {0,3}(?P<fence>`{3,}(?=[^`\n]*\n)|~{3,})[^\n]*\n.*?(?:^ {0,3}(?P=fence)[`~]*[ \t]*$|\Z)"  # a fenced block
    r"|(?<![`\\])(?P<ticks>`+)(?!`)[^\n]+?(?<!`)(?P=ticks)(?!`)",  # a code span
    re.MULTILINE | re.DOTALL,
)
TAG_OR_IMAGE = r"<(?=[A-Za-z/!?])|!(?=\[)"
ACTIVE = re.compile(rf"&(?=lt;|amp;|#33;|#96;|#126;)|{TAG_OR_IMAGE}")
ACTIVE_OR_CODE = re.compile(rf"{ACTIVE.pattern}|[`~]")
WRITTEN = {"&": "&amp;", "<": "&lt;", "!": "&#33;", "`": "&#96;", "~": "&#126;"}
# A block that Gradio would draw.
DIAGRAM = re.compile(r"^([ \t>*+\d.)-]*(?:`{3,}|~{3,})[ \t]*)(&*)(?=mermaid)", re.MULTILINE | re.IGNORECASE)
THOUGHT = ("<think>", "</think>")  # around what models such as Qwen3 think before they answer
READ = {written: character for character, written in WRITTEN.items()}
WRITTEN_FORMS = re.compile("|".join(READ))
FENCE_BELOW_ROW = re.compile(r"\|[^\n]*\n {0,3}(?:```|~~~)")  # of a table, perhaps
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


@functools.lru_cache(maxsize=256)  # a growing answer is shown with all that was said before it, again and again
def shown(text: str) -> str:
    """Markdown that shows `text`, its tags as text and its images as links."""
    text = DIAGRAM.sub(r"\1&\2", text)
    written = _changed(text, lambda part: _written(ACTIVE, part))
    return written if _is_inert(written) else _written(ACTIVE_OR_CODE, text)


def _written(characters: re.Pattern[str], text: str) -> str:
    return characters.sub(lambda match: WRITTEN[match[0]], text)


def _is_inert(markdown: str) -> bool:
    """Whether tags and images stand in code alone, for a parser and where other parsers may see it otherwise."""
    if not re.search(TAG_OR_IMAGE, markdown):
        return True
    if re.search("[`~]{3}|`", CODE.sub("", markdown)) or FENCE_BELOW_ROW.search(markdown):
        return False
    if any(
        match["ticks"] and "|" in match[0] and re.search(TAG_OR_IMAGE, match[0]) for match in CODE.finditer(markdown)
    ):
        return False
    tokens = MARKDOWN.parse(markdown)
    inner = [child for token in tokens for child in token.children or ()]
    return {token.type for token in (*tokens, *inner)}.isdisjoint(("html_block", "html_inline", "image"))


def shown_answer(text: str) -> str:
    """The same for an answer, with what the model thought before it as a quotation."""
    if not text.startswith(THOUGHT[0]):
        return shown(text)
    thought, _, answer = text.removeprefix(THOUGHT[0]).partition(THOUGHT[1])
    quoted = "".join(f"> {line}\n" for line in shown(thought.strip()).splitlines())
    return f"{quoted}\n{shown(answer.strip())}".strip()


def meant(markdown: str) -> str:
    """The text that `shown` made `markdown` from."""
    text = _changed(markdown, lambda part: WRITTEN_FORMS.sub(lambda match: READ[match[0]], part))
    return DIAGRAM.sub(lambda match: match[1] + match[2][1:], text)


def _changed(text: str, change: Callable[[str], str]) -> str:
    """`text` with all outside of code changed."""
    parts, end = [], 0
    for match in CODE.finditer(text):
        parts += [change(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*parts, change(text[end:])])
