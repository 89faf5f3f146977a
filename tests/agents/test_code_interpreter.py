"""The tool runs the model's Python in a kernel of the run, and tells what came out."""

import json
from pathlib import Path

import pytest

pytest.importorskip("ipykernel")

from qianwen.agents import code_interpreter as module
from qianwen.agents.code_interpreter import code_interpreter, code_of, observation_text
from qianwen.agents.tool import CallContext
from qianwen.chat.json_schema import satisfies
from qianwen.runtime.errors import ConfigError, ToolError
from qianwen.sandbox import isolation
from qianwen.sandbox.cell import CellError, CellResult
from qianwen.sandbox.ipython import LOST


@pytest.fixture(scope="module")
def tool():
    if isolation.refusal("bubblewrap") and isolation.refusal("namespaces"):
        pytest.skip("no sandbox works here")
    tool = code_interpreter()
    yield tool
    tool.close()


@pytest.fixture
def call(tool, tmp_path):
    return lambda code, seconds=60.0: tool.run({"code": code}, CallContext("key", tmp_path, seconds))


def test_the_tool_says_what_it_does(tool):
    assert (tool.name, tool.effect, tool.is_trusted, tool.is_stateful) == ("code_interpreter", "none", False, True)
    assert tool.spec.args_format == "code" and satisfies({"code": "1"}, tool.spec.parameters)
    assert not satisfies({}, tool.spec.parameters)
    json.dumps(tool.spec.to_openai())


def test_the_words_of_the_release_can_be_chosen(tool):
    spec = code_interpreter(language="zh").spec
    assert (spec.name_for_human, spec.description) == ("代码解释器", "代码解释器，可用于执行Python代码。")
    assert spec.parameters["properties"]["code"]["description"] == "待执行的代码"


def test_variables_files_and_figures_of_a_run(call, tmp_path):
    (tmp_path / "sales.csv").write_text("month,sold\n1,2\n2,5\n")
    first = call("```py\nimport pandas as pd\nd = pd.read_csv('sales.csv')\nprint(d.sold.sum())\nlen(d)\n```")
    assert (first.text, first.is_error) == ("stdout:\n\n```\n7\n```\n\nexecute_result:\n\n```\n2\n```", False)
    second = call("import matplotlib.pyplot as plt\nd.plot(); plt.show(); d.to_csv('out.csv')")
    assert second.text.endswith("![fig-001](fig-001.png)\n\nFiles written: out.csv")
    assert second.files == (tmp_path / "fig-001.png", tmp_path / "out.csv")


def test_each_run_has_variables_of_its_own(tool, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    contexts = [CallContext("key", tmp_path / name, 60) for name in "ab"]
    tool.run({"code": "x = 1"}, contexts[0])
    assert "NameError" in tool.run({"code": "x"}, contexts[1]).text
    assert "1" in tool.run({"code": "x"}, contexts[0]).text


def test_of_too_many_runs_the_one_that_waited_longest_learns_that_its_variables_are_lost(tmp_path):
    tool, texts = code_interpreter(max_kernels=1), []
    try:
        for name in ("a", "b", "a"):
            (tmp_path / name).mkdir(exist_ok=True)
            texts.append(tool.run({"code": "x = 1"}, CallContext("key", tmp_path / name, 60)).text)
    finally:
        tool.close()
    assert [LOST in text for text in texts] == [False, False, True]


def test_a_run_that_another_process_began_learns_that_its_variables_are_lost(call, tmp_path):
    assert LOST not in call("y = 1").text
    later = code_interpreter()
    try:
        assert LOST in later.run({"code": "print(2)"}, CallContext("key", tmp_path, 60)).text
    finally:
        later.close()
    assert LOST not in call("y").text  # the first kernel is still there


def test_an_error_is_short_and_marked(call):
    observation = call("1 / 0")
    assert observation.is_error
    assert observation.text.startswith("error:\n\n```\nTraceback") and observation.text.endswith(
        "ZeroDivisionError: division by zero\n```"
    )


def test_the_time_of_the_run_is_kept(call):
    observation = call("import time; time.sleep(30)", 1.0)
    assert observation.is_error and "The cell was interrupted: 1 s passed." in observation.text


def test_a_cell_that_prints_nothing_shows_its_variables(call):
    seen = call("a = 6\nb = a * 7").text
    assert seen == "nothing was printed; variables of this cell:\n\n```\na = 6\nb = 42\n```"


def test_code_without_output_says_so(call):
    assert call("pass").text == "The code ended without output."


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("x = 1", "x = 1"),
        ("```python\nx = 1\n```", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```py\nx = 1", "x = 1"),
        ("  ```py\nx = 1\n```\n", "x = 1\n"),
        ("s = '''```'''", "s = '''```'''"),
        ("", ""),
        ("```", "```"),
    ],
)
def test_the_fence_around_code_is_removed(text, code):
    assert code_of(text).strip() == code.strip()


def test_what_goes_wrong_is_said_after_the_output():
    result = CellResult(
        status="timeout",
        stdout="a",
        stderr="w" * 2000,
        error=CellError("E", "v", ""),
        figures=(Path("/run/fig-001.png"),),
        notes=("The cell was interrupted: 1 s passed.",),
    )
    text = observation_text(result, Path("/run"))
    assert text.split("\n\n") == [
        *("stdout:", "```\na\n```", "stderr:", f"```\n{'w' * 1000}\n```", "error:", "```\nE: v\n```"),
        *("![fig-001](fig-001.png)", "The cell was interrupted: 1 s passed."),
    ]


def test_the_model_learns_that_no_font_has_chinese(monkeypatch):
    result = CellResult(status="ok", stderr="UserWarning: Glyph 20013 missing from font(s) DejaVu Sans.")
    monkeypatch.setattr(module.fonts, "has_chinese", lambda: False)
    assert observation_text(result, Path()).endswith("write the labels of figures in English.")


def test_without_isolation_there_is_no_tool(monkeypatch):
    monkeypatch.setattr(isolation, "refusal", lambda backend: "Operation not permitted")
    with pytest.raises(ConfigError, match="no sandbox works on this machine.*Operation not permitted"):
        code_interpreter()
    with pytest.raises(ConfigError, match="landlock: Operation not permitted"):
        code_interpreter(sandbox="landlock")


def test_a_kernel_that_does_not_start_is_an_error_of_the_call(tool, tmp_path, monkeypatch):
    monkeypatch.setattr("qianwen.sandbox.kernel_process.PROGRAM", "/usr/nothing.py")
    (tmp_path / "new").mkdir()
    with pytest.raises(ToolError, match="could not start a program"):
        tool.run({"code": "1"}, CallContext("key", tmp_path / "new", 60))
