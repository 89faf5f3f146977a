"""The loop: replies become steps, errors become observations or an end, and any stop can be continued."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from qianwen.agents.agent import Agent
from qianwen.agents.budget import Budget
from qianwen.agents.calls import Ask
from qianwen.agents.journal import Journal
from qianwen.agents.policy import Policy
from qianwen.agents.step import Answer, Call, End, Given, Result, Thought
from qianwen.agents.tool import Observation
from qianwen.chat.messages import Message
from qianwen.chat.model import Delta
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.runtime.errors import ConfigError, RequestError, ToolError

from ..engine.conftest import byte_tokenizer, tiny_model
from .conftest import Script, call, tool


@pytest.fixture
def ask(journal):
    """Run a question to its end: the steps."""

    def run(model, tools=(), question="What?", **options):
        agent = Agent(model, tools, journal=journal, **options)
        return [event for event in agent.run(question, journal.create_run("agent")) if not isinstance(event, Delta)]

    return run


def texts(steps):
    return [step.observation.text for step in steps if isinstance(step, Result)]


def test_thought_call_result_answer(ask, journal):
    model = Script(("I echo it.", [call("echo", text="hi")]), "It is hi.")
    steps = ask(model, [tool("echo")])
    kinds = [type(step) for step in steps]
    assert kinds == [Given, Thought, Call, Result, Answer, End]
    assert texts(steps) == ["echo: hi"] and steps[-2:] == [Answer("It is hi."), End("answered")]
    assert journal.steps(journal.find_run("last")) == steps
    second = model.requests[1]["messages"]
    assert [message.role for message in second] == ["user", "assistant", "tool"]
    assert second[1].text == "I echo it." and second[1].tool_calls[0].id == second[2].tool_call_id


def test_text_streams_before_its_step_is_there(journal):
    events = list(Agent(Script("Hello you."), journal=journal).run("Hi"))
    assert [event.text for event in events if isinstance(event, Delta)] == ["Hell", "o yo", "u."]
    assert events[-2:] == [Answer("Hello you."), End("answered")]


def test_instructions_are_the_system_message(ask):
    model = Script("Yes.")
    ask(model, instructions="Be brief.")
    assert [(each.role, each.text) for each in model.requests[0]["messages"]] == [
        ("system", "Be brief."),
        ("user", "What?"),
    ]


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


def test_only_the_first_wrong_call_in_a_row_is_free(ask):
    model = Script([call("echo", txt="1")], [call("echo", txt="2")], [call("echo", txt="3")], "I cannot.")
    steps = ask(model, [tool("echo")], budget=Budget(calls=2))
    assert [step.status for step in steps if isinstance(step, Result)] == ["invalid"] * 3
    assert steps[-1] == End("calls") and [request["tool_choice"] for request in model.requests] == [
        "auto",
        "auto",
        "auto",
        "none",
    ]


def test_a_call_whose_arguments_are_wrong_is_no_answer_if_it_arrives_as_text(ask):
    turn = '```json\n{"name": "echo", "arguments": {"txt": "a"}}\n```'
    steps = ask(Script(turn, [call("echo", text="a")], "Good."), [tool("echo")])
    assert [type(step) for step in steps] == [Given, Call, Result, Call, Result, Answer, End]


def test_spent_calls_leave_one_reply_without_tools(ask):
    model = Script([call("echo", text="1"), call("echo", text="2"), call("echo", text="3")], "Enough.")
    steps = ask(model, [tool("echo")], budget=Budget(calls=2))
    assert texts(steps)[:2] == ["echo: 1", "echo: 2"] and "all 2 calls are spent" in texts(steps)[2]
    assert steps[-2:] == [Answer("Enough."), End("calls")] and model.requests[1]["tool_choice"] == "none"


def test_a_model_that_calls_even_without_tools_ends_without_an_answer(ask):
    steps = ask(Script([call("echo", text="1")]), [tool("echo")], budget=Budget(calls=1))
    assert steps[-1] == End("calls") and not any(isinstance(step, Answer) for step in steps)


def test_spent_tokens_and_spent_time_end_the_run_at_once(ask):
    model = Script([call("echo", text="1")])
    assert ask(model, [tool("echo")], budget=Budget(tokens=10))[-1] == End("tokens")
    assert [request["max_tokens"] for request in model.requests] == [10, 5]
    slow = tool("echo", run=lambda *_: (time.sleep(0.03), Observation("late"))[1])
    steps = ask(Script([call("echo", text="1")], "Never."), [slow], budget=Budget(seconds=0.02))
    assert texts(steps) == ["late"] and steps[-1] == End("time")


def test_calls_of_a_reply_that_spent_the_budget_are_not_made(ask):
    steps = ask(Script([call("echo", text="1")]), [tool("echo")], budget=Budget(tokens=5))
    assert [step.status for step in steps if isinstance(step, Result)] == ["skipped"] and steps[-1] == End("tokens")


def test_time_is_checked_while_a_reply_streams(ask):
    class Slow(Script):
        def _stream(self, turn):
            for delta in super()._stream(turn):
                time.sleep(0.01)
                yield delta

    model = Slow("A long answer that is never complete, word by word by word.")
    *_, answer, end = ask(model, budget=Budget(seconds=0.03))
    assert end == End("time") and "A long answer".startswith(answer.text[:4]) and not model.num_open


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


def test_an_empty_reply_after_a_result_is_asked_for_once_more(ask):
    model = Script(
        [call("echo", text="1")],
        lambda request: "It is 1." if "answer the user" in request["messages"][-1].text else "",
    )
    steps = ask(model, [tool("echo")])
    assert steps[-2:] == [Answer("It is 1."), End("answered")] and len(model.requests) == 3
    assert model.requests[1]["seed"] != model.requests[2]["seed"]
    steps = ask(Script([call("echo", text="1")], " \n"), [tool("echo")])
    assert steps[-1] == End("empty") and isinstance(steps[-2], Result)


def test_a_reply_that_was_cut_says_so(ask):
    class Cut(Script):
        def _stream(self, turn):
            yield Delta(text=turn)
            yield Delta(finish_reason="length")

    assert ask(Cut("Half an"))[-2:] == [Answer("Half an"), End("length")]


def test_a_model_out_of_reach_ends_the_run_and_resume_tries_again(journal):
    model = Script(RequestError("cannot connect"))
    agent = Agent(model, journal=journal)
    run = journal.create_run("agent")
    assert list(agent.run("Hi", run))[-1] == End("error", "cannot connect")
    model.turns = ("Hello.",)
    assert list(agent.resume(run))[-2:] == [Answer("Hello."), End("answered")]
    assert list(agent.resume(run)) == []


def test_a_fault_of_ours_is_in_the_journal_and_raised(journal):
    with pytest.raises(ZeroDivisionError):
        list(Agent(Script(lambda _: 1 / 0), journal=journal).run("Hi"))
    assert "ZeroDivisionError" in journal.steps(journal.find_run("last"))[-1].detail


def test_closing_the_run_closes_the_stream_at_once_and_the_run_goes_on(journal):
    model = Script("A long answer.")
    agent, run = Agent(model, journal=journal), journal.create_run("agent")
    events = agent.run("Hi", run)
    while not isinstance(next(events), Delta):
        pass
    assert model.num_open == 1
    events.close()
    assert model.num_open == 0 and [type(step) for step in journal.steps(run)] == [Given]
    assert list(agent.resume(run))[-1] == End("answered")


@pytest.fixture
def llm():
    return LLM(tiny_model(max_position_embeddings=512), byte_tokenizer(), EngineConfig(block_size=8, batch_invariant=True))


def test_closing_the_run_frees_its_place_in_the_engine(journal, llm):
    events = Agent(llm, journal=journal, sampling={"ignore_eos": True, "max_tokens": 64}).run("Hi")
    while not isinstance(next(events), Delta):
        pass
    assert llm.shared.num_open == 1
    events.close()
    assert llm.shared.num_open == 0 and not llm.engine.has_work


def test_runs_side_by_side_in_one_engine_are_those_of_runs_alone(journal, llm):
    sampling = {"seed": 3, "max_tokens": 12, "temperature": 1.0}

    def answer(question):
        agent = Agent(llm, [tool("echo")], journal=journal, sampling=sampling, budget=Budget(calls=0))
        return [step for step in agent.run(question, journal.create_run("agent")) if isinstance(step, Answer | End)]

    questions = ["one", "two", "three", "four"]
    alone = [answer(question) for question in questions]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(answer, questions)) == alone
    assert all(steps[-1].reason in ("calls", "length") for steps in alone)


def test_a_further_question_goes_on_with_the_conversation(journal):
    model = Script("One.", "Two.")
    agent, run = Agent(model, journal=journal, instructions="Count."), journal.create_run("agent")
    list(agent.run("First", run))
    list(agent.run([Message("user", "Second")], run))
    messages = model.requests[1]["messages"]
    assert [message.text for message in messages] == ["Count.", "First", "One.", "Second"]


def test_the_budget_is_for_one_question(journal):
    model = Script([call("echo", text="1")], "One.", [call("echo", text="1")], "Two.")
    agent, run = (
        Agent(model, [tool("echo")], journal=journal, budget=Budget(calls=1, tokens=11)),
        journal.create_run("agent"),
    )
    assert list(agent.run("First", run))[-1] == list(agent.run("Second", run))[-1] == End("calls")


def test_a_run_is_worked_on_by_one_at_a_time(journal):
    agent, run = Agent(Script("Hello."), journal=journal), journal.create_run("agent")
    events = agent.run("Hi", run)
    next(events)
    with pytest.raises(ConfigError, match="in use"):
        list(agent.resume(run))
    events.close()
    assert list(agent.resume(run))[-1] == End("answered")


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


def test_seeds_depend_on_the_run_or_on_the_users_seed(journal):
    def seeds(run, **sampling):
        model = Script([call("echo", text="1")], "Done.")
        list(
            Agent(model, [tool("echo")], journal=journal, sampling=sampling).run(
                "Go.", journal.create_run("agent", run)
            )
        )
        return [request["seed"] for request in model.requests]

    first, second = seeds("a"), seeds("b")
    assert len({*first, *second}) == 4
    assert seeds("c", seed=7) == seeds("d", seed=7) != first


def test_two_tools_with_one_name_and_permissions_of_no_tool_are_refused(journal):
    with pytest.raises(ConfigError, match="same name"):
        Agent(Script(""), [tool("echo"), tool("echo")], journal=journal)
    with pytest.raises(ConfigError, match="wirte"):
        Agent(Script(""), [tool("write")], journal=journal, policy=Policy({"wirte": "deny"}))


def test_the_log_has_every_call(ask, journal):
    ask(Script([call("echo", text="1"), call("no", text="2"), call("echo")], "Done."), [tool("echo")])
    assert [(each.call.call.name, each.state) for each in journal.calls()] == [
        ("echo", "done"),
        ("no", "done"),
        ("echo", "done"),
    ]
    assert json.loads(journal.calls()[0].call.call.arguments) == {"text": "1"}
