"""Text that people and models wrote, made ready for a page.

Gradio turns Markdown into HTML and then removes what could act. That would also remove `<div>` from a question about
HTML, so outside of code every `<` that could begin a tag is written as a character reference: tags are shown and never
parsed. Images become links, because a page that fetches what a model names tells its server who reads it; and diagrams
stay code, because their styles may name something to fetch, too.

`shown` can be undone: `meant(shown(text)) == text`, which is what editing a shown question needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable

CODE = re.compile(
    r"^ {0,3}(?P<fence>`{3,}(?=[^`\n]*\n)|~{3,})[^\n]*\n.*?(?:^ {0,3}(?P=fence)[`~]*[ \t]*$|\Z)"  # a fenced block
    r"|(?<![`\\])(?P<ticks>`+)(?!`)(?:(?!\n\n).)+?(?<!`)(?P=ticks)(?!`)",  # a code span
    re.MULTILINE | re.DOTALL,
)
ACTIVE = re.compile(r"&(?=lt;|amp;|#33;)|<(?=[A-Za-z/!?])|!(?=\[)")
WRITTEN = {"&": "&amp;", "<": "&lt;", "!": "&#33;"}
DIAGRAM = re.compile(r"^( {0,3}`{3,}[ \t]*)(&*)(?=mermaid)")  # the beginning of a fenced block that Gradio would draw
THOUGHT = ("<think>", "</think>")  # around what models such as Qwen3 think before they answer
READ = {written: character for character, written in WRITTEN.items()}


def shown(text: str) -> str:
    """Markdown that shows `text`, its tags as text and its images as links."""
    return _changed(
        text,
        outside=lambda part: ACTIVE.sub(lambda match: WRITTEN[match[0]], part),
        code=lambda block: DIAGRAM.sub(r"\1&\2", block),
    )


def shown_answer(text: str) -> str:
    """The same for an answer, with what the model thought before it as a quotation."""
    if not text.startswith(THOUGHT[0]):
        return shown(text)
    thought, _, answer = text.removeprefix(THOUGHT[0]).partition(THOUGHT[1])
    quoted = "".join(f"> {line}\n" for line in shown(thought.strip()).splitlines())
    return f"{quoted}\n{shown(answer.strip())}".strip()


def meant(markdown: str) -> str:
    """The text that `shown` made `markdown` from."""
    return _changed(
        markdown,
        outside=lambda part: re.sub("&(?:lt|amp|#33);", lambda match: READ[match[0]], part),
        code=lambda block: DIAGRAM.sub(lambda match: match[1] + match[2][1:], block),
    )


def _changed(text: str, *, outside: Callable[[str], str], code: Callable[[str], str]) -> str:
    parts, end = [], 0
    for match in CODE.finditer(text):
        parts += [outside(text[end : match.start()]), code(match[0])]
        end = match.end()
    return "".join([*parts, outside(text[end:])])
