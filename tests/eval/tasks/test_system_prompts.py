"""Obedience over six turns, with models that obey always, never, or until someone asks them to stop."""

import pytest

from qianwen.align.system_prompts.held_out import held_out_prompts
from qianwen.chat.model import Delta
from qianwen.eval.ask import ask
from qianwen.eval.runner import run_task
from qianwen.eval.tasks.system_prompts import ORDER, SystemPrompts


class Radio:
    """Ends its answers with "Over", up to turn `last`; remembers the conversations that it got."""

    def __init__(self, last: int = 6) -> None:
        self.last, self.seen = last, []

    def chat(self, messages, functions=(), **options):
        self.seen.append(list(messages))
        turn = len(messages) // 2
        yield Delta(f"This is answer number {'abcdef'[turn - 1]}." + (" Over." if turn <= self.last else ""))
        yield Delta(finish_reason="stop")


def radio_example():
    return next(each for each in SystemPrompts().examples() if '"Over"' in each.messages[0].text)


@pytest.mark.parametrize("last", [0, 4, 6])
def test_each_turn_is_judged_and_the_conversation_goes_on(last):
    model, example = Radio(last), radio_example()
    answer = ask(model, example)
    shares = SystemPrompts().score(example, answer).shares
    assert shares["adherence"] == (last, 6) == shares["adherence/behaviour"] == shares["adherence/en"]
    assert [shares[f"adherence/turn {turn}"].amount for turn in range(1, 7)] == [turn <= last for turn in range(1, 7)]
    assert shares["all turns"] == (last == 6, 1) and "adherence/unseen rule" not in shares
    assert [len(messages) for messages in model.seen] == [2, 4, 6, 8, 10, 12]
    assert model.seen[-1][0].text == example.messages[0].text


def test_an_example_can_be_played_twice():
    example = radio_example()
    first, again = (ask(Radio(), example).shares for _ in range(2))
    assert first == again


def test_the_same_answer_again_obeys_nothing():
    class Parrot:
        def chat(self, messages, functions=(), **options):
            yield Delta("All is well. Over.", finish_reason="stop")

    assert ask(Parrot(), radio_example()).shares["adherence"] == (1, 6)


def test_a_run_of_the_first_16_has_all_kinds_and_languages_and_metrics_are_in_order():
    result = run_task(SystemPrompts(), Radio(), limit=16)
    assert list(result.metrics) == [name for name in ORDER if name in result.metrics] and len(result.metrics) == 15
    assert result.metrics["adherence/role"].num_examples == 4 and result.metrics["adherence"].num_examples == 16
    assert 0 < result.metrics["adherence"].value < 0.5


def test_all_64_are_asked():
    examples = list(SystemPrompts().examples())
    assert {example.facts["name"] for example in examples} == {prompt.name for prompt in held_out_prompts()}
    assert SystemPrompts().settings()["prompts"] == 64
