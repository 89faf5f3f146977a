"""What `qianwen agent` shows: thoughts dimmed, each call with its result in a frame, answers as Markdown.

    I compute it.
    ┌ calculator expression="17 * 23"
    └ 391
    17 × 23 = 391.

Text that streams may be a thought or the answer. So it is shown dimmed while it grows, and replaced by the step that it
becomes. In a pipe nothing is shown before it is complete.
"""

import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.text import Text

from qianwen.agents.agent import Event
from qianwen.agents.calls import Ask
from qianwen.agents.step import Answer, Call, End, Given, Result, Step, Thought, to_record
from qianwen.chat.messages import ToolCall
from qianwen.chat.model import Delta
from qianwen.cli.chat_terminal import printable
from qianwen.runtime.files import json_text
from qianwen.runtime.translation import tr

MAX_LINES = 12  # of a result on the screen; `/steps` shows all
STREAM_LINES = 8  # of text that still streams


class AgentView:
    """Shows the events of an agent on a console; answers on another one, if it is given."""

    def __init__(self, console: Console, answers: Console | None = None, *, max_lines: int = MAX_LINES) -> None:
        self.console, self.answers, self.max_lines = console, answers or console, max_lines
        self._text, self._live = "", Live(console=console, transient=True, auto_refresh=False)
        self._open: set[str] = set()

    @property
    def is_calling(self) -> bool:
        """Whether calls are being made now."""
        return bool(self._open)

    def show(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Delta):
            self._stream(event.reasoning + event.text)
            return
        self.end_stream()
        if isinstance(event, Ask):
            self.note(event.reason)
            return
        self._step(event)
        self._track(event)

    def _track(self, step: Step) -> None:
        """Follow which calls are open."""
        if isinstance(step, Call):
            self._open.add(step.call.id)
        elif isinstance(step, Result):
            self._open.discard(step.call_id)
        elif isinstance(step, End):
            self._open.clear()

    def end_stream(self) -> None:
        """Remove text that was not complete."""
        if self._text:
            self._text = ""
            self._live.stop()
            self._live.update("")

    def note(self, text: str) -> None:
        """A line that is not from the model."""
        self.console.print(Text(printable(text), style="yellow"))

    def _stream(self, piece: str) -> None:
        if not self.console.is_terminal:
            return
        if not self._text:
            self._live.start()
        self._text += printable(piece)
        lines = self._text.splitlines()[-STREAM_LINES:]
        self._live.update(Text("\n".join(lines), style="dim"), refresh=True)

    def _step(self, step: Step) -> None:
        match step:
            case Given(message) if message.role == "user":
                self.console.print(Text(f"> {printable(message.text)}", style="bold"))
            case Thought(text, reasoning):
                self.console.print(Text(printable((reasoning + "\n" + text).strip()), style="dim"))
            case Call(call):
                self.console.print(_frame("┌ ", "│ ", call_lines(call), "cyan"))
            case Result():
                self._result(step)
            case Answer(text):
                # Without hyperlinks the target is printed: a link must not lead to another place than its text says.
                plain = printable(text)
                self.answers.print(Markdown(plain, hyperlinks=False) if self.answers.is_terminal else Text(plain))
            case End() if note := end_note(step):
                self.note(note)

    def _result(self, result: Result) -> None:
        name = f"{result.name}: " if len(self._open) > 1 else ""
        lines = (name + result.observation.text).splitlines() or [""]
        if len(lines) > self.max_lines:
            more = tr("… {count:,} more lines; /steps shows all", count=len(lines) - self.max_lines + 1)
            lines = [*lines[: self.max_lines - 1], more]
        style = "red" if result.observation.is_error else ""
        self.console.print(_frame("│ ", "│ ", lines, style, last="└ "))
        if result.fault:
            self.note(tr("The tool {name} failed: {reason}", name=result.name, reason=result.fault))
        for path in result.observation.files:
            self.note(str(path))


class JsonView(AgentView):
    """Prints every step as a line of JSON, and a question for a permission as `ask` with the key of the call."""

    def show(self, event: Event) -> None:
        match event:
            case Delta():
                return
            case Ask(key, call, reason):
                record = {"kind": "ask", "key": key, "name": call.name, "arguments": call.arguments, "reason": reason}
            case _:
                record = to_record(event)
                self._track(event)
        self.record(record)

    def record(self, record: Mapping[str, object]) -> None:
        """Print one line."""
        self.answers.print(Text(json_text(record)), soft_wrap=True)


def _frame(first: str, rest: str, lines: Sequence[str], style: str, last: str | None = None) -> Text:
    """Lines with the left side of a frame."""
    marks = [first, *[rest] * (len(lines) - 1)]
    if last is not None:
        marks[-1] = last
    text = Text()
    for number, (mark, line) in enumerate(zip(marks, lines, strict=True)):
        text.append(("\n" if number else "") + mark, style="dim").append(printable(line), style=style)
    return text


def call_lines(call: ToolCall) -> list[str]:
    """A call for the screen: `name field=value …`; a text of several lines, such as code, as it is."""
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        return [call.name, *call.arguments.splitlines()]
    lines, short = [], [call.name]
    for name, value in arguments.items():
        if isinstance(value, str) and "\n" in value:
            lines += [f"{name}:", *value.splitlines()]
        else:
            short.append(f"{name}={json.dumps(value, ensure_ascii=False)}")
    return [" ".join(short), *lines]


def end_note(end: End) -> str:
    """Why the agent stopped, if it is not that it answered."""
    notes = {
        "calls": tr("[the calls of the budget are spent; the answer was asked for without tools]"),
        "repeated": tr("[the model repeated the same call; the answer was asked for without tools]"),
        "tokens": tr("[stopped: the tokens of the budget are spent]"),
        "time": tr("[stopped: the time of the budget is spent]"),
        "length": tr("[truncated: max_tokens or the end of the context was reached]"),
        "empty": tr("[the model replied with nothing, twice]"),
        "stopped": tr("[stopped]"),
        "error": tr("[the run ended with an error: {reason}; it can be resumed]", reason=end.detail),
    }
    return notes.get(end.reason, "")


@contextmanager
def stoppable(is_calling: Callable[[], bool]) -> Iterator[Callable[[], bool]]:
    """Ctrl-C stops a tool at once, and the model at its next token; a second Ctrl-C stops the program.

    A tool is interrupted by KeyboardInterrupt. The model is not: other runs may share its engine.
    """
    pressed: list[int] = []

    def on_interrupt(number: int, _: object) -> None:
        pressed.append(number)
        if is_calling() or len(pressed) > 1:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
