"""An agent that is killed at any moment goes on with the same transcript, and no side effect happens twice.

Every change of the journal, every piece of a reply, every event, and the moments before and after a side effect are
places where a kill can come. Each place is tried once, in a run of its own.
"""

import itertools
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .nursery import Nursery, nursery

QUESTION = "Order two pens, then tell me the time."
MIN_KILLS = 100


def prepare() -> None:
    import qianwen.agents.agent  # noqa: F401


def attempt(folder: str, kill_at: int) -> None:
    """Start the run in `folder`, or go on with it; a kill at the place number `kill_at` is the end of this process."""
    from qianwen.agents.agent import Agent
    from qianwen.agents.calls import Ask
    from qianwen.agents.journal import Journal
    from qianwen.agents.policy import Policy

    numbers = itertools.count(1)

    def place(statement: str = "") -> None:
        if not statement.startswith(("SELECT", "PRAGMA", "CREATE")) and next(numbers) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    journal = Journal(folder)
    journal._db.set_trace_callback(place)
    ids = [run.id for run in journal.runs()]
    run = ids[0] if ids else journal.create_run("agent", "run")
    permissions = {"order": "allow", "post": "ask", "note": "allow"}
    agent = Agent(_model(place), _tools(Path(folder), place), journal=journal, policy=Policy(permissions))
    has_begun = bool(journal.steps(run))
    for event in agent.resume(run) if has_begun else agent.run(QUESTION, run):
        place()
        if isinstance(event, Ask):
            journal.answer(event.key, allow=True)
    journal.close()


def _model(place):
    """A model whose answers depend on its seed and on all messages, so that any difference would show."""
    import hashlib

    from qianwen.chat.messages import ToolCall
    from qianwen.chat.model import Delta

    turns = [
        ("I order and look. ", [("order", '{"text": "pens"}'), ("clock", "{}"), ("clock", '{"zone": 1}')]),
        ("", [("note", '{"text": "a"}'), ("post", '{"text": "b"}')]),
        ("", [("ordr", "{}"), ("order", '{"txt": 1}')]),
        ("Done. ", []),
    ]

    class Model:
        def chat(self, messages, functions=(), *, seed, **settings):
            text, calls = turns[sum(message.role == "assistant" for message in messages)]
            seen = [(message.role, message.text, [call.id for call in message.tool_calls]) for message in messages]
            digest = hashlib.sha256(repr((seed, seen, settings)).encode()).hexdigest()[:8]
            for piece in (text, digest) if text else ():
                place()
                yield Delta(text=piece)
            for name, arguments in calls:
                yield Delta(tool_calls=(ToolCall(name, arguments),))
            yield Delta(finish_reason="stop")

    return Model()


def _tools(folder: Path, place) -> list:
    """Two tools that change something and know what they did, one that sends, and one that reads."""
    from qianwen.agents.tool import Observation, Tool
    from qianwen.chat.messages import FunctionSpec

    def tool(name, effect, *, knows_outcome=False):
        log = folder / f"{name}.log"

        def run(arguments, context):
            place()
            if effect == "changes":
                with open(log, "ab", buffering=0) as file:
                    file.write(f"{context.key}\n".encode())
            place()
            return Observation(f"{name} {context.key}")

        def outcome(key):
            is_done = log.exists() and f"{key}\n" in log.read_text()
            return Observation(f"{name} {key}") if is_done else None

        schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
        spec = FunctionSpec(name, parameters={"type": "object"} if name == "clock" else schema)
        return Tool(spec=spec, run=run, effect=effect, is_trusted=True, outcome=outcome if knows_outcome else None)

    changing = [tool(name, "changes", knows_outcome=True) for name in ("order", "note")]
    return [*changing, tool("post", "sends"), tool("clock", "reads"), tool("blind", "changes")]


@pytest.fixture(scope="module")
def nurse() -> Iterator[Nursery]:
    if sys.platform == "win32":
        pytest.skip("forks and SIGKILL are POSIX")
    with nursery(__name__) as nurse:
        yield nurse


def outcome(folder: Path) -> tuple[list, dict[str, list[str]], list]:
    """The transcript, the side effects, and the state of every call."""
    from qianwen.agents.journal import Journal

    journal = Journal(folder)
    steps, calls = journal.steps("run"), [(call.key, call.state) for call in journal.calls()]
    journal.close()
    return steps, {path.name: path.read_text().splitlines() for path in sorted(folder.glob("*.log"))}, calls


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, if there is one: a kill, unlike a loss of power, leaves it as it would leave a disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


def test_killed_at_every_place_it_ends_as_if_it_was_never_killed(nurse, memory):
    console = memory / "console.txt"
    assert nurse.run(console, memory / "whole", 0) == 0, console.read_text()
    whole = outcome(memory / "whole")
    assert [len(keys) for keys in whole[1].values()] == [1, 1] and all(state == "done" for _, state in whole[2])
    for kill_at in itertools.count(1):
        folder = memory / str(kill_at)
        status = nurse.run(console, folder, kill_at)
        assert status in (-signal.SIGKILL, 0), console.read_text()
        if status == 0:
            break
        attempt(folder, 0)
        assert outcome(folder) == whole, kill_at
    assert kill_at > MIN_KILLS


def test_killed_again_and_again_it_still_ends_the_same(nurse, memory):
    console, folder = memory / "console.txt", memory / "run"
    assert nurse.run(console, memory / "whole", 0) == 0, console.read_text()
    for kill_at in itertools.count(12, 3):
        if nurse.run(console, folder, kill_at) == 0:
            break
    assert outcome(folder) == outcome(memory / "whole") and kill_at > 20
