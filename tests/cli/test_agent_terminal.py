"""What an agent shows: frames, notes and JSON; text of a model or tool never controls the terminal."""

import io
import json
import os
import signal
from pathlib import Path

import pytest
from rich.console import Console

from qianwen.agents.calls import Ask
from qianwen.agents.step import END_REASONS, Answer, Call, End, Given, Result, Thought
from qianwen.agents.tool import Observation
from qianwen.chat.messages import Message, ToolCall
from qianwen.chat.model import Delta
from qianwen.cli.agent_terminal import AgentView, JsonView, call_lines, end_note, stoppable

ADD, RUN = ToolCall("add", '{"x": 1, "y": "a"}', "1"), ToolCall("run", '{"code": "a = 1\\nprint(a)"}', "2")


def shown(*events, kind=AgentView, **options):
    out = io.StringIO()
    view = kind(Console(file=out, width=100), **options)
    for event in events:
        view.show(event)
    return out.getvalue()


def test_a_call_and_its_result_are_one_frame():
    events = [Given(Message("user", "Hi?")), Thought("I add."), Call(ADD, "none"), Result("1", "add", Observation("3"))]
    assert shown(*events, Answer("It is **3**."), End("answered")) == (
        '> Hi?\nI add.\n┌ add x=1 y="a"\n└ 3\nIt is **3**.\n'
    )


def test_results_of_parallel_calls_have_names_and_code_has_lines():
    text = shown(
        Call(ADD, "none"),
        Call(RUN, "none"),
        Result("1", "add", Observation("3\n4")),
        Result("2", "run", Observation("")),
    )
    assert text == '┌ add x=1 y="a"\n┌ run\n│ code:\n│ a = 1\n│ print(a)\n│ add: 3\n└ 4\n└ \n'


def test_a_long_result_is_short_on_the_screen():
    result = Result("1", "add", Observation("\n".join(map(str, range(100)))))
    assert shown(Call(ADD, "none"), result).endswith("│ 10\n└ … 89 more lines; /steps shows all\n")
    assert shown(Call(ADD, "none"), result, max_lines=200).endswith("└ 99\n")


def test_a_fault_and_files_are_for_the_user():
    result = Result("1", "add", Observation("The tool failed.", True, (Path("plot.png"),)), "failed", "KeyError: 'x'")
    assert "The tool add failed: KeyError: 'x'\nplot.png\n" in shown(Call(ADD, "none"), result)


def test_control_characters_do_not_reach_the_terminal():
    evil = "a\x1b]0;title\x07b"
    text = shown(Thought(evil), Call(ToolCall(evil, evil), "none"), Result("", evil, Observation(evil)), Answer(evil))
    assert "\x1b" not in text and "\x07" not in text and text.count("a]0;titleb") == 5


def test_every_end_but_an_answer_says_why():
    notes = {reason: end_note(End(reason, "no host")) for reason in END_REASONS}
    assert notes.pop("answered") == "" and all(notes.values()) and "no host" in notes["error"]
    assert len(set(notes.values())) == len(notes)


def test_arguments_that_are_no_json_are_shown_as_they_are():
    assert call_lines(ToolCall("run", "a = 1\nb")) == ["run", "a = 1", "b"]


def test_streamed_text_is_only_on_a_terminal():
    assert shown(Delta(text="Hel")) == ""
    out = io.StringIO()
    view = AgentView(Console(file=out, width=100, force_terminal=True))
    view.show(Delta(text="Hel"))
    assert "Hel" in out.getvalue()
    view.show(Answer("Hello"))
    assert out.getvalue().rstrip().endswith("Hello")


def test_json_has_a_line_for_each_step():
    events = [
        Delta(text="x"),
        Call(ADD, "none"),
        Ask("1", ADD, "it changes"),
        Result("1", "add", Observation("3")),
        End("answered"),
    ]
    records = [json.loads(line) for line in shown(*events, kind=JsonView).splitlines()]
    assert [record["kind"] for record in records] == ["call", "ask", "result", "end"]
    assert records[1] == {"kind": "ask", "key": "1", "name": "add", "arguments": ADD.arguments, "reason": "it changes"}


def test_a_view_knows_whether_a_tool_runs():
    view = AgentView(Console(file=io.StringIO()))
    view.show(Call(ADD, "none"))
    assert view.is_calling
    view.show(Result("1", "add", Observation("3")))
    assert not view.is_calling


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals are sent to processes on POSIX")
def test_ctrl_c_waits_for_the_model_but_not_for_a_tool():
    with stoppable(lambda: False) as is_stopped:
        os.kill(os.getpid(), signal.SIGINT)
        assert is_stopped()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    with stoppable(lambda: True), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
