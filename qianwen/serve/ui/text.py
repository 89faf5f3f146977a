"""Text that people and models wrote, made ready for a page.

Gradio turns Markdown into HTML and then removes what could act. That would also remove `<div>` from a question about
HTML, so outside of code every `<` that could begin a tag is written as a character reference: tags are shown and never
parsed. Images become links, because a page that fetches what a model names tells its server who reads it.

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
READ = {written: character for character, written in WRITTEN.items()}


def shown(text: str) -> str:
    """Markdown that shows `text`, its tags as text and its images as links."""
    return _outside_code(text, lambda part: ACTIVE.sub(lambda match: WRITTEN[match[0]], part))


def meant(markdown: str) -> str:
    """The text that `shown` made `markdown` from."""
    return _outside_code(markdown, lambda part: re.sub("&(?:lt|amp|#33);", lambda match: READ[match[0]], part))


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    parts, end = [], 0
    for match in CODE.finditer(text):
        parts += [change(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*parts, change(text[end:])])
