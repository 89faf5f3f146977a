"""Lengths are exact, and facts are where they should be."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qianwen.eval.task import Complete, Generate, TaskOptions
from qianwen.eval.tasks.long_context.haystack import filler
from qianwen.eval.tasks.long_context.prompts import Prompt, PromptWriter, with_facts
from qianwen.runtime.errors import ConfigError, DataError

Options = Callable[..., TaskOptions]


@pytest.mark.parametrize("is_chat", [True, False])
@pytest.mark.parametrize("room", [100, 101, 399])
def test_a_prompt_fills_its_room_up_to_one_piece(options: Options, is_chat: bool, room: int) -> None:
    writer = PromptWriter("t", options(is_chat=is_chat))
    pieces = filler(["ab"] * 300, " ", writer.model.tokenizer)
    prompt, length = writer.fit(room, pieces, lambda some: Prompt("".join(f" {each}" for each in some), "?"))
    assert room - 3 < length <= room
    around = length - len(prompt.text)
    assert around == (1 if not is_chat else around) and (around > 10) == is_chat, "the chat template is counted"


def test_a_text_that_has_more_tokens_than_its_pieces_is_shortened(options: Options) -> None:
    writer = PromptWriter("t", options(is_chat=False))
    pieces = filler(["ab"] * 300, " ", writer.model.tokenizer)
    _, length = writer.fit(200, pieces, lambda some: Prompt("x" * 5 * len(some), ""))
    assert length <= 200


def test_a_question_longer_than_the_length_is_refused(options: Options) -> None:
    writer = PromptWriter("t", options())
    with pytest.raises(DataError, match="choose longer lengths"):
        writer.fit(20, filler(["a"], " ", writer.model.tokenizer), lambda some: Prompt("x" * 50, ""))


def test_default_lengths_are_steps_to_the_context_and_chosen_ones_must_fit(options: Options) -> None:
    assert PromptWriter("t", options(max_len=32768)).lengths() == tuple(range(1024, 8193, 1024))
    assert PromptWriter("t", options(max_len=4096)).lengths((1, 2, 4, 8)) == (512, 1024, 2048, 4096)
    assert PromptWriter("t", options(lengths=(300, 200, 300))).lengths() == (200, 300)
    with pytest.raises(ConfigError, match="9,000 is more than the 8,000"):
        PromptWriter("t", options(lengths=(100, 9000))).lengths()


def test_a_model_behind_a_url_has_no_lengths(options: Options) -> None:
    with pytest.raises(ConfigError, match="needs the tokenizer"):
        PromptWriter("t", options(model=None)).lengths()


def test_a_chat_model_gets_a_message_and_a_base_model_the_beginning_of_its_answer(options: Options) -> None:
    prompt, facts = Prompt("text", " The answer is"), {"target": "1"}
    chat = PromptWriter("t", options()).example(prompt, 9, facts)
    base = PromptWriter("t", options(is_chat=False)).example(prompt, 9, facts)
    assert isinstance(chat, Generate) and chat.messages[0].text == "text"
    assert isinstance(base, Complete) and base.prompt == "text The answer is" and base.stop == ("\n",)
    assert chat.facts == base.facts == facts and chat.max_tokens == base.max_tokens == 9


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.sets(st.integers(0, 100), min_size=1, max_size=4))
def test_facts_are_at_their_depths_and_nothing_is_lost(lengths: list[int], depths: set[int]) -> None:
    ends = [sum(lengths[:n]) for n in range(len(lengths) + 1)]
    sentences = [f"s{n}" for n in range(len(lengths))]
    words = with_facts(sentences, " ", ends, {depth: [f"f{depth}"] for depth in depths}).split(" ")
    assert [word for word in words if word[0] == "s"] == sentences
    assert [word for word in words if word[0] == "f"] == [f"f{depth}" for depth in sorted(depths)]
    for depth in depths:
        before = sum(word[0] == "s" for word in words[: words.index(f"f{depth}")])
        distance = abs(ends[before] - depth * ends[-1] / 100)
        assert all(distance <= abs(end - depth * ends[-1] / 100) for end in ends)
