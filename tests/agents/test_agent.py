"""The loop: replies become steps, errors become observations or an end, and any stop can be continued."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from qianwen.agents.agent import Agent
from qianwen.agents.budget import Budget
from qianwen.agents.policy import Policy
from qianwen.agents.step import Answer, Call, End, Given, Result, Thought
from qianwen.agents.tool import Observation
from qianwen.chat.messages import Message
from qianwen.chat.model import Delta
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.runtime.errors import ConfigError, RequestError

from ..engine.conftest import byte_tokenizer, tiny_model
from .conftest import Script, call, texts, tool


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


def test_instructions_are_the_system_message(ask):
    model = Script("Yes.")
    ask(model, instructions="Be brief.")
    assert [(each.role, each.text) for each in model.requests[0]["messages"]] == [
        ("system", "Be brief."),
        ("user", "What?"),
    ]


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
    return LLM(
        tiny_model(max_position_embeddings=512), byte_tokenizer(), EngineConfig(block_size=8, batch_invariant=True)
    )


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


def test_two_tools_with_one_name_and_permissions_of_no_tool_are_refused(journal):
    with pytest.raises(ConfigError, match="same name"):
        Agent(Script(""), [tool("echo"), tool("echo")], journal=journal)
    with pytest.raises(ConfigError, match="wirte"):
        Agent(Script(""), [tool("write")], journal=journal, policy=Policy({"wirte": "deny"}))
