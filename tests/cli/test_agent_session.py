"""A conversation with an agent in a terminal: permissions, files, and going on after a stop."""

import io

import pytest
from rich.console import Console

from qianwen.agents.agent import Agent
from qianwen.agents.step import Answer, End, Given, Result
from qianwen.agents.tool import Observation
from qianwen.cli.agent_session import COMMANDS, AgentSession, descriptions
from qianwen.cli.agent_terminal import AgentView
from qianwen.runtime.errors import RequestError

from ..agents.conftest import Script, call, journal, tool

__all__ = ["journal"]


class Session(AgentSession):
    """Collects what is shown, and answers questions for permissions from a list."""

    def __init__(self, journal, model, tools=(), answers=(), **options):
        self.out, self.questions, replies = io.StringIO(), [], iter(answers)

        def prompt(text):
            self.questions.append(text)
            reply = next(replies, EOFError())
            if isinstance(reply, BaseException):
                raise reply
            return reply

        agent = Agent(model, tools, journal=journal, **options)
        super().__init__(agent, journal.create_run("agent"), AgentView(Console(file=self.out, width=100)), prompt)

    def says(self, line):
        self.out.seek(0)
        self.out.truncate()
        assert self.take(line)
        return self.out.getvalue()

    @property
    def steps(self):
        return self.agent.journal.steps(self.run)


def writer(written):
    return tool(
        "write",
        "changes",
        lambda arguments, _: (written.append(arguments["text"]), Observation("ok"))[1],
        is_trusted=True,
    )


def test_a_question_is_answered_and_its_steps_are_listed(journal):
    session = Session(journal, Script([call("echo", text="a")], "It is a."), [tool("echo")])
    assert session.says("What?") == '┌ echo text="a"\n└ echo: a\nIt is a.\n'
    assert session.says("/steps") == '> What?\n┌ echo text="a"\n└ echo: a\nIt is a.\n'
    assert session.says("  ") == "" and not session.take("/exit")


def test_every_command_answers(journal, tmp_path):
    session = Session(journal, Script("Fine."), [tool("echo", "reads")])
    assert descriptions().keys() == COMMANDS.keys()
    assert all(usage in session.says("/help") for usage, _ in COMMANDS.values())
    assert "reads    allow" in session.says("/tools") and "/help" in session.says("/bogus")
    (tmp_path / "a.csv").write_text("1")
    assert "a.csv" in session.says(f"/attach {tmp_path / 'a.csv'}") and "a.csv  1" in session.says("/files")
    assert "no file" in session.says("/attach missing")
    session.says("//slash")
    assert session.steps[0].message.text == "[Upload file a.csv]\n/slash"
    assert f"{session.run}  answered  [Upload file a.csv] /slash" in session.says("/runs")


@pytest.mark.parametrize(
    ("answers", "written", "asked"),
    [(["y", "n"], ["a"], 2), (["always"], ["a", "b"], 1), (["", "no"], [], 2), (["是", "总是"], ["a", "b"], 2)],
)
def test_the_user_is_asked_for_each_call_that_changes_something(journal, answers, written, asked):
    done = []
    session = Session(
        journal, Script([call("write", text="a")], [call("write", text="b")], "Done."), [writer(done)], answers
    )
    assert "Done." in session.says("Go.") and done == written and len(session.questions) == asked


def test_a_call_without_an_answer_waits_and_resume_asks_again(journal):
    done = []
    session = Session(journal, Script([call("write", text="a")], "Done."), [writer(done)], [EOFError(), "y"])
    assert "--resume" in session.says("Go.") and not done
    assert "Done." in session.says("/resume") and done == ["a"]


def test_ctrl_c_in_a_tool_keeps_the_run(journal):
    presses = [KeyboardInterrupt()]

    def stop(*_):
        if presses:
            raise presses.pop()
        return Observation("ok")

    session = Session(journal, Script([call("look", text="a")], "Done."), [tool("look", "reads", stop)])
    assert "[stopped" in session.says("Go.")
    assert "Done." in session.says("/resume")
    assert [type(step) for step in session.steps[-3:]] == [Result, Answer, End]


def test_a_new_question_after_ctrl_c_drops_the_step(journal):
    session = Session(journal, Script([call("write", text="a")], "Fine."), [writer([])], [KeyboardInterrupt()])
    assert "[stopped" in session.says("Go.")
    assert "Fine." in session.says("Leave it.")
    assert [step.status for step in session.steps if isinstance(step, Result)] == ["skipped"]
    assert sum(isinstance(step, Given) for step in session.steps) == 2


def test_an_error_is_a_line_and_the_conversation_goes_on(journal):
    model = Script(RequestError("cannot connect to http://x"))
    session = Session(journal, model)
    assert "cannot connect to http://x" in session.says("Hi.")
    model.turns = (lambda _: 1 / 0,)
    assert "internal error (ZeroDivisionError" in session.says("/resume")
    model.turns = ("Hello.",)
    assert "Hello." in session.says("Hi again.")
