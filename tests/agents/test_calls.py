"""The calls of a reply: made in order, decided before they are made, and never made twice."""

import json
import threading
import time

import pytest

from qianwen.agents.agent import Agent
from qianwen.agents.budget import Budget
from qianwen.agents.calls import Ask
from qianwen.agents.journal import Journal
from qianwen.agents.policy import Policy
from qianwen.agents.step import Answer, End, Given, Result
from qianwen.agents.tool import Observation
from qianwen.chat.messages import Message
from qianwen.chat.model import Delta
from qianwen.runtime.errors import ToolError

from .conftest import Script, call, texts, tool


def test_parallel_calls_run_side_by_side_and_their_results_keep_the_order(ask):
    both = threading.Barrier(2, timeout=10)

    def meet(arguments, _):
        both.wait()
        time.sleep(0.02 if arguments["text"] == "a" else 0)
        return Observation(arguments["text"])

    steps = ask(Script([call("meet", text="a"), call("meet", text="b")], "Done."), [tool("meet", "reads", meet)])
    assert texts(steps) == ["a", "b"]


@pytest.mark.parametrize("fields", [{"effect": "changes"}, {"effect": "sends"}, {"is_stateful": True}])
def test_calls_that_change_send_or_build_on_each_other_run_one_by_one(ask, fields):
    running = []

    def alone(arguments, _):
        running.append(arguments["text"])
        time.sleep(0.01)
        assert running == [arguments["text"]]
        return Observation(running.pop())

    policy = Policy({"changes": "allow", "sends": "allow"})
    calls = [call("alone", text=text) for text in "abc"]
    assert texts(ask(Script(calls, "Done."), [tool("alone", run=alone, **fields, is_trusted=True)], policy=policy)) == [
        "a",
        "b",
        "c",
    ]


def test_an_error_of_a_tool_is_for_the_model_a_fault_for_the_user(ask):
    def wrong(*_):
        raise ToolError("There is no file b.txt.")

    def broken(*_):
        raise KeyError("password of the database")

    calls = [call("wrong", text=""), call("broken", text=""), call("text", text="")]
    tools = [tool("wrong", run=wrong), tool("broken", run=broken), tool("text", run=lambda *_: "no observation")]
    _, _, _, _, first, second, third, *_ = ask(Script(calls, "Sorry."), tools)
    assert (first.observation.text, first.status, first.fault) == ("There is no file b.txt.", "failed", "")
    assert "database" not in second.observation.text and "KeyError: 'password of the database'" in second.fault
    assert third.status == "failed" and "returned str" in third.fault


def test_an_unknown_tool_and_wrong_arguments_are_named_and_can_be_repaired(ask):
    turns = [[call("ekho", text="a")], [call("echo", txt="a")], [call("echo", text="a")], "Good."]
    steps = ask(Script(*turns), [tool("echo")], budget=Budget(calls=3))
    first, second, third = texts(steps)
    assert "Did you mean echo?" in first and "`text` is missing (you wrote `txt`)" in second and third == "echo: a"
    assert steps[-1] == End("answered")


def test_a_tool_learns_the_time_that_is_left(ask):
    seconds = []
    ask(
        Script([call("echo", text="1")], "Good."),
        [tool("echo", run=lambda _, context: (seconds.append(context.seconds), Observation(""))[1])],
        budget=Budget(seconds=60),
    )
    assert 50 < seconds[0] <= 60


def test_the_third_identical_call_is_not_made_and_the_answer_is_forced(ask):
    made = []
    echo = tool("echo", run=lambda arguments, _: (made.append(arguments), Observation("same"))[1])
    model = Script([call("echo", text="1")], [call("echo", '{ "text":"1" }')], [call("echo", text="1")], "It is same.")
    steps = ask(model, [echo])
    assert len(made) == 2 and texts(steps)[2].startswith(
        "same\n(This is the earlier result: you made this same call 2 times"
    )
    assert steps[-2:] == [Answer("It is same."), End("repeated")]


def test_reading_again_after_a_change_is_no_repetition(ask):
    turns = [[call(name, text="1")] for name in ("look", "set", "look", "set2", "look")]
    tools = [
        tool("look", "reads", is_trusted=True),
        tool("set", "changes", is_trusted=True),
        tool("set2", "changes", is_trusted=True),
    ]
    steps = ask(Script(*turns, "Done."), tools, policy=Policy({"changes": "allow"}))
    assert steps[-1] == End("answered") and len(texts(steps)) == 5


def asking(journal, *turns, **options):
    """An agent with a tool that changes something, and the texts it wrote."""
    written = []
    write = tool(
        "write",
        "changes",
        lambda arguments, _: (written.append(arguments["text"]), Observation("ok"))[1],
        is_trusted=True,
    )
    return Agent(Script(*turns), [write, tool("echo")], journal=journal, **options), written


def test_a_question_to_the_user_is_a_row_that_another_process_answers(journal):
    agent, written = asking(journal, [call("write", text="a")], "Done.")
    run = journal.create_run("agent")
    *_, question = agent.run("Write a.", run)
    assert isinstance(question, Ask) and not written
    assert [type(event) for event in agent.resume(run)] == [Ask]  # still no answer
    other = Journal(journal.folder)
    (open_call,) = other.calls(state="asked")
    assert open_call.key == question.key and "write" in open_call.reason
    assert other.answer(open_call.key, allow=True) and not other.answer(open_call.key, allow=False)
    other.close()
    assert list(agent.resume(run))[-1] == End("answered") and written == ["a"]


def test_nothing_of_a_reply_is_made_before_all_of_it_is_decided(journal):
    made = []
    echo = tool("echo", run=lambda *_: (made.append(1), Observation(""))[1])
    agent = Agent(
        Script([call("echo", text="1"), call("write", text="a")], "Done."),
        [echo, tool("write", "changes")],
        journal=journal,
    )
    assert isinstance(list(agent.run("Go."))[-1], Ask) and not made


def test_an_answer_at_once_goes_on_without_leaving(journal):
    agent, written = asking(journal, [call("write", text="a")], [call("write", text="b")], "Done.")
    asked = []
    for event in agent.run("Go."):
        if isinstance(event, Ask):
            asked.append(event)
            journal.answer(event.key, allow=len(asked) == 1)
    assert written == ["a"] and len(asked) == 2 and event == End("answered")
    assert [step.status for step in journal.steps(journal.find_run("last")) if isinstance(step, Result)] == [
        "done",
        "denied",
    ]


def test_always_allows_a_tool_for_the_rest_of_the_run_only(journal):
    agent, written = asking(journal, [call("write", text="a")], [call("write", text="b")], "Done.")
    for event in agent.run("Go."):
        if isinstance(event, Ask):
            journal.answer(event.key, allow=True, always=True)
    assert written == ["a", "b"]
    assert isinstance(list(agent.run("Go."))[-1], Ask)


def test_what_a_stranger_wrote_makes_an_allowed_change_a_question(journal):
    agent, written = asking(
        journal, [call("echo", text="x")], [call("write", text="x")], "Done.", policy=Policy({"write": "allow"})
    )
    assert isinstance(list(agent.run("Go."))[-1], Ask) and not written


def test_a_denied_call_is_not_made(ask, journal):
    steps = ask(
        Script([call("write", text="a")], "I may not."), [tool("write", "changes")], policy=Policy({"write": "deny"})
    )
    assert "not allowed" in texts(steps)[0] and steps[-1] == End("answered")
    (logged,) = journal.calls()
    assert logged.state == "done" and "deny write" in logged.reason


def test_a_new_question_drops_the_calls_that_wait(journal):
    agent, written = asking(journal, [call("write", text="a")], "Fine.")
    run = journal.create_run("agent")
    list(agent.run("Write a.", run))
    dropped, *steps = [event for event in agent.run("Never mind.", run) if not isinstance(event, Delta)]
    assert dropped.status == "skipped" and not written
    assert steps == [End("stopped"), Given(Message("user", "Never mind.")), Answer("Fine."), End("answered")]


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


def interrupted(journal, effect, outcome=None):
    """A run that was killed inside its tool, and what resuming it gives: the keys of all calls, the result."""
    keys = []

    def run(_, context):
        keys.append(context.key)
        if len(keys) == 1:
            raise Killed
        return Observation("again")

    policy = Policy({"act": "allow"})
    agent = Agent(
        Script([call("act", text="")], "Done."),
        [tool("act", effect, run, outcome=outcome)],
        journal=journal,
        policy=policy,
    )
    with pytest.raises(Killed):
        list(agent.run("Go.", run_id := journal.create_run("agent")))
    (result,) = [event for event in agent.resume(run_id) if isinstance(event, Result)]
    return keys, result


@pytest.mark.parametrize("effect", ["none", "reads", "sends"])
def test_a_killed_call_without_a_change_is_made_again_with_the_same_key(journal, effect):
    keys, result = interrupted(journal, effect)
    assert len(keys) == 2 and keys[0] == keys[1] and result.observation.text == "again"


def test_a_killed_change_is_never_made_twice(journal):
    keys, result = interrupted(journal, "changes")
    assert len(keys) == 1 and result.status == "unknown" and "may have happened" in result.observation.text


def test_a_tool_that_knows_the_outcome_is_asked(journal):
    keys, result = interrupted(journal, "changes", lambda key: Observation(f"done {key}"))
    assert len(keys) == 1 and result.observation.text == f"done {keys[0]}" and result.status == "done"
    keys, result = interrupted(journal, "changes", lambda key: None)
    assert len(keys) == 2 and result.observation.text == "again"


def test_a_long_result_is_cut_and_the_whole_is_a_file(ask):
    long = "".join(f"{number}\n" for number in range(5000))
    steps = ask(Script([call("echo", text="1")], "Long."), [tool("echo", run=lambda *_: Observation(long))])
    result = next(step for step in steps if isinstance(step, Result))
    assert len(result.observation.text) < 4200 and result.observation.files[0].read_text() == long
    assert result.observation.files[0].name in result.observation.text


def test_the_log_has_every_call(ask, journal):
    ask(Script([call("echo", text="1"), call("no", text="2"), call("echo")], "Done."), [tool("echo")])
    assert [(each.call.call.name, each.state) for each in journal.calls()] == [
        ("echo", "done"),
        ("no", "done"),
        ("echo", "done"),
    ]
    assert json.loads(journal.calls()[0].call.call.arguments) == {"text": "1"}
