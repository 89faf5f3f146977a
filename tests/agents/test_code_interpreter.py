"""The code interpreter as a tool: one kernel for each run, and observations that a model can read."""

from pathlib import Path

import pytest

from qianwen.agents.arguments import read_arguments
from qianwen.agents.code_interpreter import code_interpreter, code_of, observation_text
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
        assert not ask('{"code": "x = open(\'data.csv\').read().split()"}', folder).is_error
    assert ["'0'" in ask("x", folder).text for folder in folders] == [True, False]
    seen = ask("```python\nprint(x)\nopen('out.txt', 'w').write('done')\n```", folders[0])
    assert "['x', '0']" in seen.text and seen.text.endswith("Files written: out.txt")
    assert [path.read_text() for path in seen.files] == ["done"]
    error = ask("1 / 0", folders[0])
    assert error.is_error and "ZeroDivisionError: division by zero" in error.text
    assert "['x', '0']" in ask("x", folders[0]).text


@needs_sandbox
def test_a_new_process_says_that_variables_are_lost(tool, ask, tmp_path):
    assert LOST not in ask("y = 1", tmp_path).text
    again = code_interpreter()
    try:
        text = again.run({"code": "print(2)"}, CallContext("key", tmp_path, 60.0)).text
    finally:
        again.close()
    assert "2" in text and LOST in text
    assert LOST not in ask("y", tmp_path).text  # its own kernel is still there


@needs_sandbox
def test_a_cell_has_no_more_time_than_its_run(tool, tmp_path):
    seen = tool.run({"code": "while True: pass"}, CallContext("key", tmp_path, 0.3))
    assert seen.is_error and "The cell was interrupted" in seen.text


@needs_sandbox
def test_of_too_many_runs_the_one_that_waited_longest_is_told_that_its_variables_are_lost(tmp_path):
    tool = code_interpreter(max_kernels=1)
    folders = [tmp_path / name for name in ("one", "two")]
    texts = []
    try:
        for folder in (*folders, folders[0]):
            folder.mkdir(exist_ok=True)
            texts.append(tool.run({"code": "x = 1"}, CallContext("key", folder, 60.0)).text)
    finally:
        tool.close()
    assert [LOST in text for text in texts] == [False, False, True]


def test_an_unknown_sandbox_is_refused_before_the_first_cell():
    with pytest.raises(ConfigError, match="unknown sandbox 'docker'"):
        code_interpreter(sandbox="docker")


@pytest.mark.parametrize(
    "result, text",
    [
        (CellResult(status="ok"), "The code ended without output."),
        (CellResult(status="ok", stdout="a", result="7"), "stdout:\n\n```\na\n```\n\nexecute_result:\n\n```\n7\n```"),
        (CellResult(status="error", error=CellError("E", "v", "")), "error:\n\n```\nE: v\n```"),
        (CellResult(status="ok", figures=(Path("/r/fig-001.png"),)), "![fig-001](fig-001.png)"),
        (CellResult(status="ok", files=(Path("/r/a/b.txt"),)), "Files written: a/b.txt"),
        (CellResult(status="timeout", notes=("It was interrupted.",)), "It was interrupted."),
    ],
)
def test_what_the_model_reads(result, text):
    assert observation_text(result, Path("/r")) == text


@pytest.mark.parametrize("text", ["print(1)", "```python\nprint(1)\n```", "```\nprint(1)\n"])
def test_a_fence_around_code_is_taken_off(text):
    assert code_of(text).strip() == "print(1)"
