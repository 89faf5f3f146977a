"""The code interpreter as a tool: one kernel for each run, and observations that a model can read."""

from pathlib import Path

import pytest

from qianwen.agents.arguments import read_arguments
from qianwen.agents.code_interpreter import NOTHING, VARIABLES, code_interpreter, described
from qianwen.agents.tool import CallContext
from qianwen.chat.messages import ToolCall
from qianwen.runtime.errors import ConfigError
from qianwen.sandbox import isolation
from qianwen.sandbox.cell import CellError, CellResult
from qianwen.sandbox.ipython import LOST

needs_sandbox = pytest.mark.skipif(
    all(isolation.refusal(name) for name in isolation.AUTOMATIC), reason="no sandbox works on this machine"
)


@pytest.fixture(scope="module")
def tool():
    made = code_interpreter()
    yield made
    made.close()


@pytest.fixture(scope="module")
def ask(tool):
    """Call the tool as the loop does: the observation."""

    def run(code: str, folder: Path):
        return tool.run(read_arguments(ToolCall(tool.name, code), tool.spec), CallContext("key", folder, 60.0))

    return run


@needs_sandbox
def test_runs_keep_their_own_variables_and_see_their_own_files(ask, tmp_path):
    folders = [tmp_path / name for name in ("one", "two")]
    for number, folder in enumerate(folders):
        folder.mkdir()
        (folder / "data.csv").write_text(f"x\n{number}\n", encoding="utf-8")
        assert ask('{"code": "x = open(\'data.csv\').read().split()"}', folder).text == f"{VARIABLES}\nx = ['x', '{number}']"
    assert [ask("x", folder).text for folder in folders] == ["['x', '0']", "['x', '1']"]
    seen = ask("```python\nprint(x)\nopen('out.txt', 'w').write('done')\n```", folders[0])
    assert seen.text == "['x', '0']\n4\nFiles written: out.txt"
    assert [path.read_text() for path in seen.files] == ["done"]
    error = ask("1 / 0", folders[0])
    assert error.is_error and error.text.endswith("ZeroDivisionError: division by zero")
    assert ask("x", folders[0]).text == "['x', '0']"


@needs_sandbox
def test_a_new_process_says_that_variables_are_lost(tool, ask, tmp_path):
    assert ask("y = 1", tmp_path).text == f"{VARIABLES}\ny = 1"
    again = code_interpreter()
    try:
        text = again.run({"code": "print(2)"}, CallContext("key", tmp_path, 60.0)).text
    finally:
        again.close()
    assert text == f"{LOST}\n2"


@needs_sandbox
def test_a_cell_that_prints_nothing_shows_its_variables(ask, tmp_path):
    assert ask("a = 6\nb = a * 7", tmp_path).text == f"{VARIABLES}\na = 6\nb = 42"
    assert ask("c = 1\nprint(c)", tmp_path).text == "1"
    assert ask("c += 1", tmp_path).text == f"{VARIABLES}\nc = 2"
    assert VARIABLES not in ask("d = 1 / 0", tmp_path).text


@needs_sandbox
def test_a_cell_has_no_more_time_than_its_run(tool, tmp_path):
    seen = tool.run({"code": "while True: pass"}, CallContext("key", tmp_path, 0.3))
    assert seen.is_error and "The cell was interrupted" in seen.text


def test_an_unknown_sandbox_is_refused_before_the_first_cell():
    with pytest.raises(ConfigError, match="unknown sandbox 'docker'"):
        code_interpreter(sandbox="docker")


@pytest.mark.parametrize(
    "result, text",
    [
        (CellResult(status="ok"), NOTHING),
        (CellResult(status="ok", stdout="a\n", result="7\n"), "a\n7"),
        (CellResult(status="ok", stderr="old name\n"), "Warnings:\nold name"),
        (CellResult(status="error", stderr="x", error=CellError("E", "v", "")), "E: v"),
        (CellResult(status="ok", figures=(Path("/r/fig-001.png"),)), "![fig-001](fig-001.png)"),
        (CellResult(status="timeout", stdout="1", notes=("It was interrupted.",)), "1\nIt was interrupted."),
    ],
)
def test_what_the_model_reads(result, text):
    assert described(result) == text
