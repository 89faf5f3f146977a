import contextlib
import io
import json

import pytest

from qianwen.align.records import read_record
from qianwen.align.service.interpreter import KINDS, InterpreterDialogues, sandbox_executor
from qianwen.runtime.errors import ConfigError
from qianwen.sandbox.process import Sandbox


def here(program: str) -> tuple[bool, str]:
    """Runs a program of this package in this process: it is ours, and a sandbox for each would be slow."""
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            exec(program, {})
    except Exception as error:
        return False, f"{type(error).__name__}: {error}"
    return True, output.getvalue().rstrip("\n")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_observation_is_what_the_program_wrote(language):
    dialogues = InterpreterDialogues(language, here, seed=0)
    for kind in KINDS * 6:
        row = dialogues.row(kind)
        programs = [
            json.loads(message["tool_calls"][0]["function"]["arguments"])["code"]
            for message in row["messages"]
            if message.get("tool_calls")
        ]
        observations = [message["content"] for message in row["messages"] if message["role"] == "tool"]
        assert [here(program)[1] for program in programs] == observations
        assert len(programs) == 1 + (kind == "interpreter, repair")
        assert observations[-1].split("\n")[0] in row["messages"][-1]["content"]


def test_the_program_with_the_error_is_not_learned():
    dialogue = read_record(InterpreterDialogues("en", here, seed=0).row("interpreter, repair"))
    assert dialogue.excluded == {1} and dialogue.messages[3].tool_calls


def test_a_program_that_ends_otherwise_than_written_is_no_data():
    with pytest.raises(RuntimeError, match="otherwise than written"):
        InterpreterDialogues("en", lambda program: (False, "NameError"), seed=0).row("interpreter, compute")


def test_in_the_sandbox():
    try:
        execute = sandbox_executor(Sandbox.open())
    except ConfigError as error:
        pytest.skip(f"no isolation works here: {error}")
    assert execute("print(6 * 7)\nprint('好')") == (True, "42\n好")
    assert execute("import nothing_of_that_name") == (
        False,
        "ModuleNotFoundError: No module named 'nothing_of_that_name'",
    )
