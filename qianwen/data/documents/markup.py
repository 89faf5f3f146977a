"""The prose of a text in Markdown, reStructuredText or LaTeX, for rules that were made for prose.

A good tutorial is half program text, a good proof half formulas; read as prose both look like rubbish (curly brackets,
lines that repeat, words without letters). So what is no prose is left out of what the rules count, never of the text:

    fenced blocks, literal blocks after `::`, tables, a YAML head, HTML comments and tags    gone
    displayed formulas, inline ones, LaTeX commands                                         gone, a word, their words
    lines broken at a margin                                                                joined

A text that has next to no prose left is program text, and is judged as that.
"""

import re
from collections.abc import Callable

KINDS = frozenset({"docs", "math", "tutorial", "textbook"})  # of documents written in a markup
LEAST_PROSE = 0.2  # share of the characters below which a text is not prose
FENCE = re.compile(r"^([ \t]*(?:```|~~~))[^\n]*$", re.M)
LITERAL = re.compile(r"::\n\n(?:[ \t][^\n]*\n|\n(?=[ \t]))+")  # reStructuredText
TABLE = re.compile(r"^[ \t]*[|+][^\n]*[|+][ \t]*$\n?", re.M)
NOT_TEXT = "equation align gather eqnarray multline tikzpicture array verbatim lstlisting"  # of LaTeX's environments
DISPLAYED = re.compile(rf"(\$\$)|(\\\[)|\\begin\{{((?:{NOT_TEXT.replace(' ', '|')})\*?)\}}")
INLINE = re.compile(r"\$[^$\n]{1,200}\$|\\\([^\n]{1,200}?\\\)")
COMMAND = re.compile(
    r"\\(?:begin|end|label|ref|cite[a-z]{0,9}|eqref)\{[^}\n]{0,200}\}|\\[a-zA-Z]+\*?(?:\[[^\]\n]{0,200}\])?"
)
COMMENT = re.compile(r"^%.*$", re.M)  # LaTeX's
HIDDEN = re.compile(r"(<!--)|(\{%)")
TAG = re.compile(r"</?[a-zA-Z][^<>\n]{0,300}>|\{#[^}\n]{0,200}\}")
WRAPPED = re.compile(r"(?<=[^\n]{50})\n(?=[^\s\-*+#>|\d])")
BLANK = re.compile(r"\n{3,}")


def prose_of(text: str) -> str:
    """What is left of `text`, empty if that is next to nothing. Takes time as its length, whatever it holds."""
    prose = text
    if text.startswith("---\n") and (head := text.find("\n---\n")) > 0:
        prose = text[head + 5 :]
    if "```" in prose or "~~~" in prose:
        prose = _cut(prose, FENCE, lambda match: "\n" + match[1])
    if "::\n\n" in prose:
        prose = LITERAL.sub(":\n\n", prose)
    if "|\n" in prose or "+\n" in prose:
        prose = TABLE.sub("", prose)
    if "$" in prose or "\\" in prose:
        prose = _cut(COMMENT.sub("", prose), DISPLAYED, _end_of_formula)
        prose = COMMAND.sub("", INLINE.sub("x", prose)).replace("{", "").replace("}", "")
    if "<" in prose or "{" in prose:
        prose = TAG.sub("", _cut(prose, HIDDEN, lambda match: "-->" if match[1] else "%}"))
    prose = BLANK.sub("\n\n", prose).strip("\n")
    return WRAPPED.sub(" ", prose) if len(prose) >= LEAST_PROSE * len(text) else ""


def _end_of_formula(match: re.Match[str]) -> str:
    return "$$" if match[1] else "\\]" if match[2] else f"\\end{{{match[3]}}}"


def _cut(text: str, opening: re.Pattern[str], closing: Callable[[re.Match[str]], str]) -> str:
    """`text` without what stands from each opening to its closing; one that never closes is left as it is."""
    pieces, end = [], 0
    missing: set[str] = set()  # closings there are no more of: without it, openings would cost their square
    for match in opening.finditer(text):
        close = closing(match)
        if match.start() < end or close in missing:
            continue
        if (place := text.find(close, match.end())) < 0:
            missing.add(close)
            continue
        pieces.append(text[end : match.start()])
        end = place + len(close)
    return "".join([*pieces, text[end:]])
