"""Turn text of users and models into safe Markdown, and back.

Gradio turns Markdown into HTML and then removes everything active. That would also remove `<div>` from a question about
HTML. So outside of code, every `<` that could start a tag is written as a character reference: tags are displayed as
text and never parsed. Images become links, because loading an image would tell its server who reads the page. Diagrams
stay code, because their styles could load something too.

The regular expression CODE only guesses where code begins and ends; a full parser may see it differently, for example
in a list or a quotation, or after a backtick on the line before. So the result is parsed. If it has a tag or an image,
or if parsers are known to differ there, the backticks and tildes are escaped too and the text has no code at all.

Editing a displayed question needs the original text: `from_markdown(to_markdown(text)) == text`.
"""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Callable

from markdown_it import MarkdownIt

from qianwen.runtime.translation import tr

CODE = re.compile(
    r"^ {0,3}(?P<fence>`{3,}(?=[^`\n]*\n)|~{3,})[^\n]*\n.*?(?:^ {0,3}(?P=fence)[`~]*[ \t]*$|\Z)"  # a fenced block
    r"|(?<![`\\])(?P<ticks>`+)(?!`)[^\n]+?(?<!`)(?P=ticks)(?!`)",  # a code span
    re.MULTILINE | re.DOTALL,
)
TAG_OR_IMAGE = r"<(?=[A-Za-z/!?])|!(?=\[)"
ACTIVE = re.compile(rf"&(?=lt;|amp;|#33;|#96;|#126;)|{TAG_OR_IMAGE}")
ACTIVE_OR_CODE = re.compile(rf"{ACTIVE.pattern}|[`~]")
ESCAPED = {"&": "&amp;", "<": "&lt;", "!": "&#33;", "`": "&#96;", "~": "&#126;"}
# A code block that Gradio would draw as a diagram. One more & before "mermaid" prevents it and can be removed again.
DIAGRAM = re.compile(r"^([ \t>*+\d.)-]*(?:`{3,}|~{3,})[ \t]*)(&*)(?=mermaid)", re.MULTILINE | re.IGNORECASE)
THOUGHT = ("<think>", "</think>")  # around the reasoning of models such as Qwen3
UNESCAPED = {reference: character for character, reference in ESCAPED.items()}
REFERENCES = re.compile("|".join(UNESCAPED))
FENCE_BELOW_ROW = re.compile(r"\|[^\n]*\n {0,3}(?:```|~~~)")  # perhaps a table row: parsers differ
FENCE = re.compile(r"[ \t>]*(?P<ticks>`{3,}|~{3,})")
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


@functools.lru_cache(maxsize=256)  # each update of the page converts all earlier messages again
def to_markdown(text: str) -> str:
    """Markdown that displays `text`, with tags as text and images as links."""
    text = DIAGRAM.sub(r"\1&\2", text)
    escaped = _replace_outside_code(text, lambda part: _escape(ACTIVE, part))
    return escaped if _is_inert(escaped) else _escape(ACTIVE_OR_CODE, text)


def _escape(characters: re.Pattern[str], text: str) -> str:
    return characters.sub(lambda match: ESCAPED[match[0]], text)


def _is_inert(markdown: str) -> bool:
    """Whether tags and images are in code only, also for parsers that find other code in the same text."""
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


def split_thought(text: str) -> tuple[str, str]:
    """The reasoning at the start of an answer, and the rest. Without its end, all of the text is reasoning."""
    if not text.startswith(THOUGHT[0]):
        return "", text
    thought, _, answer = text.removeprefix(THOUGHT[0]).partition(THOUGHT[1])
    return thought.strip(), answer.lstrip("\n")


def thought_to_markdown(thought: str, *, is_open: bool) -> str:
    """A folded thought. Its text is a quotation, so code in it that is not closed ends with it."""
    title = tr("Thinking…") if is_open else tr("Thoughts")
    quoted = "".join(f"> {line}\n" for line in to_markdown(thought.strip()).splitlines())
    opened = " open" if is_open else ""
    return f"<details{opened}><summary>{title}</summary>\n\n{quoted}\n</details>\n\n"


def with_note(markdown: str, note: str) -> str:
    """Markdown with a small line below it; code that is not closed is closed first."""
    fence = ""
    for line in markdown.splitlines():
        mark = FENCE.match(line)
        if mark and not fence:
            fence = mark[0]
        elif mark and mark["ticks"].startswith(fence.strip(" \t>")) and not line[mark.end() :].strip():
            fence = ""
    closed = f"{markdown}\n{fence}" if fence else markdown
    return f"{closed}\n\n<small>{html.escape(note)}</small>"


def from_markdown(markdown: str) -> str:
    """The text from which `to_markdown` made `markdown`."""
    text = _replace_outside_code(markdown, lambda part: REFERENCES.sub(lambda match: UNESCAPED[match[0]], part))
    return DIAGRAM.sub(lambda match: match[1] + match[2][1:], text)


def _replace_outside_code(text: str, change: Callable[[str], str]) -> str:
    """`text` with `change` applied to everything outside of code."""
    parts, end = [], 0
    for match in CODE.finditer(text):
        parts += [change(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*parts, change(text[end:])])
