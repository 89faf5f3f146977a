r"""The program in a reply: fenced blocks of Markdown, or the lines of code among prose.

    code_blocks        the content of every fenced block, in their order
    code_block         the block that defines a function; without a fence, the lines of code in the reply
    longest_program    the longest beginning of a text that is Python

A fence may be open at the end of a reply that was cut, may be in a list or a quotation, and may begin or end within a
line. A pair of marks within one line is not a fence.
"""

import ast
import re
import textwrap
import threading
import warnings
from typing import NamedTuple

MARK = re.compile(r"`{3,}|~{3,}")
PYTHON = frozenset(["", "py", "python", "python3", "python2", "pycon", "ipython"])
CODE_LINE = re.compile(
    r"^(?:from[ \t]+[\w.]+[ \t]+import\b|import[ \t]+\w|(?:async[ \t]+)?def[ \t]+\w|class[ \t]+\w+[:(]|@\w)", re.M
)
UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
_parsing = threading.Lock()  # the filters of warnings belong to the whole process


class Block(NamedTuple):
    """A fenced block: the language after its opening fence, in lower case, and its content."""

    language: str
    content: str


def code_block(reply: str, entry_point: str = "") -> str:
    """The program in a reply: the first fenced block that defines `entry_point` (any function or class if it is empty),
    else the first block that is not blank, else, without a fence, the lines of code, or the reply itself.

    Blocks in Python or without a language have priority over blocks in other languages.
    """
    blocks = code_blocks(reply)
    name = rf"{re.escape(entry_point)}\b" if entry_point else "[A-Za-z_]"
    definition = re.compile(rf"^\s*(?:async\s+)?(?:def|class)\s+{name}", re.M)
    for block in blocks:
        if definition.search(block):
            return block
    if blocks or MARK.search(reply):
        return blocks[0] if blocks else ""
    first = CODE_LINE.search(reply)
    return longest_program(reply[first.start() :]) if first and definition.search(reply) else reply


def code_blocks(reply: str) -> list[str]:
    """The contents of the fenced blocks that are not blank: first those in Python, then those in other languages."""
    blocks = [block for block in _blocks(reply) if block.content.strip()]
    ordered = sorted(blocks, key=lambda block: block.language not in PYTHON)
    return [_without_prompts(_dedented(block.content)) for block in ordered]


def longest_program(text: str) -> str:
    """The longest beginning of `text`, in lines, that is Python; `text` itself if there is none.

    It leaves out prose after a program, and the last statement of a reply that was cut.
    """
    lines = text.splitlines(keepends=True)
    for end in range(len(lines), 0, -1):
        beginning = "".join(lines[:end])
        if beginning.strip() and parse_program(beginning) is not None:
            return beginning
    return text


def parse_program(code: str) -> ast.Module | None:
    """The syntax tree of `code`; None if it is not Python. It is never run."""
    with _parsing, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes such as "\d" in the model's code
        try:
            tree = ast.parse(code)
            compile(tree, "<reply>", "exec", dont_inherit=True)  # finds `return` outside of a function
        except UNREADABLE:
            return None
    return tree


def _blocks(reply: str) -> list[Block]:
    """Every fenced block, read line by line. A fence with a language inside an open block begins the next block."""
    blocks: list[Block] = []
    prefix, is_open = "", False
    for line in reply.splitlines(keepends=True):
        marks = list(MARK.finditer(line))
        before, after = (line[: marks[-1].start()], line[marks[-1].end() :].strip()) if marks else (line, "")
        if len(marks) % 2 == 0 or (is_open and before.strip(" \t>") and after):
            if is_open:
                inner = "\n" if prefix.strip() and line.strip() == prefix.strip() else line.removeprefix(prefix)
                blocks[-1] = _longer(blocks[-1], inner)
            continue
        if is_open and before.strip(" \t>"):
            blocks[-1] = _longer(blocks[-1], before.removeprefix(prefix) + "\n")
        is_open = not is_open or bool(re.fullmatch(r"[\w+#.-]+", after))
        if is_open:
            prefix = before if not before.strip(" \t>") else ""
            language, code = re.match(r"\{?\.?([\w+#-]*)\}?[ \t]*(.*)", after, re.S).groups()  # type: ignore[union-attr]
            blocks.append(Block(language.lower(), code + "\n" if CODE_LINE.match(code) else ""))
    return blocks


def _longer(block: Block, line: str) -> Block:
    return block._replace(content=block.content + line)


def _dedented(code: str) -> str:
    """`code` without a common indentation. `textwrap` also empties blank lines, which may be in a string."""
    return code if re.search(r"^\S", code, re.M) else textwrap.dedent(code)


def _without_prompts(code: str) -> str:
    """The lines that were typed, if `code` is a session of the interactive interpreter."""
    if not code.lstrip().startswith(">>> "):
        return code
    typed = [line[4:] for line in code.splitlines() if line.startswith((">>> ", "... ", "..."))]
    return "\n".join(typed) + "\n"
