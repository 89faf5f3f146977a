"""The terminal of `qianwen chat`: reads questions of one or several lines, and shows answers as Markdown.

Three ways to ask a question of several lines: paste them; write three double quotes before and after them; send a file
through a pipe. An answer is shown while it grows: each finished block of Markdown is printed once, and only the
last block is drawn again.
"""

import re
import select
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown

from qianwen.runtime.errors import QianwenError, fault_message
from qianwen.runtime.translation import tr

QUOTES = '"""'
PASTE_SECONDS = 0.05  # lines that arrive within this time after a line were pasted together with it
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


def take_line(
    line: str, command: Callable[[str], bool], ask: Callable[[str], object], say: Callable[[str], object]
) -> bool:
    """Answer a question or run a /command; two slashes begin a question. False when the conversation is over.

    No error ends the conversation: its message is given to `say`.
    """
    text = line.strip()
    if not text:
        return True
    try:
        if text.startswith("/") and not text.startswith("//"):
            return command(text)
        ask(text.removeprefix("/") if text.startswith("//") else line)
    except (QianwenError, OSError) as error:
        say(str(error))
    except Exception as error:  # an error of this program must not cost the conversation
        say(fault_message(error))
    return True


def typed_questions() -> Iterator[str]:
    """The questions that a person types or pastes, until Ctrl-D."""
    if sys.platform != "win32":
        import readline  # gives input() its history and editing

        readline.parse_and_bind("set enable-bracketed-paste on")
    while True:
        try:
            print()
            yield join_quoted(lambda is_first: _typed(tr("You") + "> " if is_first else "... "))
        except KeyboardInterrupt:
            print("\n" + tr("(/exit or Ctrl-D leaves)"))
        except EOFError:
            print()
            return


def piped_questions() -> Iterator[str]:
    """One question for each line of a pipe, or for each block in triple quotes (for `--lines`)."""
    lines = iter(sys.stdin)

    def read(_: bool) -> str:
        try:
            return next(lines).rstrip("\n")
        except StopIteration:
            raise EOFError from None

    while True:
        try:
            yield join_quoted(read)
        except EOFError:
            return


def join_quoted(read: Callable[[bool], str]) -> str:
    """One line of `read`, or all lines up to the closing quotes if it begins with triple quotes; EOFError at the end.

    `read` gets whether the line is the first of the question. Quotes that the input never closes end with it.
    """
    first = read(True)
    if not first.lstrip().startswith(QUOTES):
        return first
    text = first.lstrip().removeprefix(QUOTES)
    while QUOTES not in text:
        try:
            text += "\n" + read(False)
        except EOFError:
            break
    return text.partition(QUOTES)[0].strip("\n")


def _typed(prompt: str) -> str:
    """A line, with all lines that were pasted together with it."""
    lines = [input(prompt)]
    while sys.platform != "win32" and select.select([sys.stdin], [], [], PASTE_SECONDS)[0]:
        try:
            lines.append(input())
        except EOFError:  # Ctrl-D after the line; the next read reports it again
            break
    return "\n".join(lines)


def printable(text: str) -> str:
    """`text` without control characters, except line end and tab: a model's text must not control the terminal."""
    return "".join(c for c in text if c in "\n\t" or not unicodedata.category(c).startswith("Cc"))


def write_plain(text: str) -> None:
    """Print a piece of text as it is."""
    print(printable(text), end="", flush=True)


@contextmanager
def markdown_writer(console: Console) -> Iterator[Callable[[str], None]]:
    """Yield a function that takes the pieces of one answer and shows them as Markdown."""
    open_text = ""  # the last block, which may still grow
    with Live(console=console, transient=True, auto_refresh=False, vertical_overflow="ellipsis") as live:

        def write(piece: str) -> None:
            nonlocal open_text
            blocks, open_text = split_blocks(open_text + printable(piece))
            for block in blocks:
                console.print(_rendered(block))
                console.print()
            live.update(_rendered(open_text), refresh=True)

        try:
            yield write
        finally:
            live.update("", refresh=True)
            if open_text.strip():
                console.print(_rendered(open_text))


def split_blocks(text: str) -> tuple[list[str], str]:
    """The blocks of Markdown that are complete, and the rest.

    A block ends at a blank line outside code, if the line after it is not indented: indented lines belong to a list.
    """
    blocks: list[str] = []
    block: list[str] = []
    fence = ""
    is_blank = False
    for line in text.splitlines(keepends=True):
        if is_blank and not fence and line.strip() and not line[0].isspace():
            blocks.append("".join(block))
            block = []
        if (match := _FENCE.match(line)) and (not fence or match[1].startswith(fence)):
            fence = "" if fence else match[1]
        is_blank = not line.strip() and line.endswith("\n")
        block.append(line)
    return blocks, "".join(block)


def _rendered(text: str) -> Markdown:
    # Without hyperlinks the target is printed: a link must not lead to another place than its text says.
    return Markdown(text, hyperlinks=False)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C stops the answer at the next token; a second one stops the program."""
    pressed: list[int] = []

    def on_interrupt(number: int, _: object) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
