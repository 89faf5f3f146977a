"""One reply of the model becomes steps, also one that is empty, cut, or a call that nothing read."""

import time

from qianwen.agents.agent import Agent
from qianwen.agents.budget import Budget
from qianwen.agents.step import Answer, Call, End, Given, Result
from qianwen.chat.model import Delta

from .conftest import Script, call, texts, tool


def test_text_streams_before_its_step_is_there(journal):
    events = list(Agent(Script("Hello you."), journal=journal).run("Hi"))
    assert [event.text for event in events if isinstance(event, Delta)] == ["Hell", "o yo", "u."]
    assert events[-2:] == [Answer("Hello you."), End("answered")]


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


def test_time_is_checked_while_a_reply_streams(ask):
    class Slow(Script):
        def _stream(self, turn):
            for delta in super()._stream(turn):
                time.sleep(0.01)
                yield delta

    model = Slow("A long answer that is never complete, word by word by word.")
    *_, answer, end = ask(model, budget=Budget(seconds=0.03))
    assert end == End("time") and "A long answer".startswith(answer.text[:4]) and not model.num_open


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
