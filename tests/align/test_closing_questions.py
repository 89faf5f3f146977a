"""Which questions are put to a finished model, and how its answers are counted."""

import pytest

from qianwen.align.closing_questions import NUM_QUESTIONS, Ended, ended_answers
from qianwen.align.records import Dialogue
from qianwen.chat.messages import FunctionSpec, Message, ToolCall
from qianwen.model.transformer import Qwen
from qianwen.tokenizer.tokenizer import Tokenizer


def dialogue(question: str, answer: str) -> Dialogue:
    return Dialogue([Message("user", question), Message("assistant", answer)])


def test_a_model_that_never_stops_is_noticed(model: Qwen, tokenizer: Tokenizer) -> None:
    few = [dialogue("dog", "wuff"), dialogue("cat", "miau")]
    assert ended_answers(model.eval(), tokenizer, few) == Ended(0, 2, 0)
    assert ended_answers(model, tokenizer, few * 10).num_answers == NUM_QUESTIONS


@pytest.mark.parametrize("size", [230, 1000, 100_000])
def test_questions_that_do_not_fit_are_left_out(model: Qwen, tokenizer: Tokenizer, size: int) -> None:
    """With a context of 256 tokens, of which a system message and the tags take about 70."""
    long, answer_too_long = dialogue("q" * size, "a"), dialogue("q", "a" * 200)
    assert ended_answers(model.eval(), tokenizer, [long, answer_too_long]) == Ended(0, 0, 2)
    assert ended_answers(model, tokenizer, [long, dialogue("q", "a")]) == Ended(0, 1, 1)


def test_the_first_answer_that_is_learned_counts(model: Qwen, tokenizer: Tokenizer) -> None:
    excluded = Message("assistant", "a" * 300)
    early = Dialogue([*dialogue("q", "a").messages, excluded], excluded=frozenset({2}))
    assert ended_answers(model.eval(), tokenizer, [early]).num_answers == 1
    late = Dialogue([Message("user", "q"), excluded, *dialogue("q", "a").messages], excluded=frozenset({1}))
    assert ended_answers(model, tokenizer, [late]) == Ended(0, 0, 1)


def test_calls_and_what_has_no_form_in_the_format(model: Qwen, tokenizer: Tokenizer) -> None:
    call = Message("assistant", "", tool_calls=(ToolCall("f", "{}"),))
    with_call = Dialogue([Message("user", "q"), call])
    without_question = Dialogue([call], [FunctionSpec("f")])
    assert ended_answers(model.eval(), tokenizer, [with_call, without_question]) == Ended(0, 1, 0)
