"""An answer that ended early goes on where it ended, also inside its thoughts, for every kind of template."""

import pytest

from qianwen.chat import Message, collect
from qianwen.engine.chat_run import ChatRun

from .test_chat_templates import ALWAYS, BRACKETS, HEADERS, HI, THINKING, tokenizer
from .test_thinking_switch import output

THOUGHTS, ANSWER = "so it\nis", "yes, <b>\n\nof course"
WHOLE = f"<think>\n{THOUGHTS}\n</think>\n\n{ANSWER}"
THINKERS = {"asks": THINKING, "always": ALWAYS, "writes its tag": ALWAYS.replace("<think>\\n", "") + "{# <think> #}"}
PLACES = [WHOLE.index(THOUGHTS) + 1 + i for i in range(len(THOUGHTS))] + [
    WHOLE.index(ANSWER) + 1 + i for i in range(len(ANSWER))
]


def read(run: ChatRun, text: str) -> Message:
    """A reply, one character at a time."""
    return collect(run.deltas([*(output(char) for char in text), output("", "stop")]))


@pytest.mark.parametrize("template", THINKERS.values(), ids=THINKERS)
@pytest.mark.parametrize("place", PLACES)
def test_the_two_parts_of_a_thinking_answer_are_the_whole(template: str, place: int) -> None:
    first, rest = ChatRun(tokenizer(template), HI), ChatRun(tokenizer(template), HI)
    opening = "<think>\n" if template == ALWAYS else ""  # is in the prompt
    begun = read(first, WHOLE[:place].removeprefix(opening))
    rest.begin_with(begun)
    more = read(rest, WHOLE[len(WHOLE[:place].rstrip()) if place <= WHOLE.index("\n</think>") else place :])
    assert begun.reasoning_content + more.reasoning_content == THOUGHTS
    assert begun.text + more.text == ANSWER
    shown = tokenizer(template).decode(rest.prompt_ids)
    prompt = tokenizer(template).decode(ChatRun(tokenizer(template), HI).prompt_ids)
    assert shown.rstrip() == (prompt + WHOLE[:place].removeprefix(opening)).rstrip(), "as the model wrote it"
    ours = tokenizer(template).special_tokens
    assert rest.prompt_ids.count(ours["<think>"]) == 1, "the tags are tokens"
    assert rest.prompt_ids.count(ours["</think>"]) == (1 if begun.text else 0)


@pytest.mark.parametrize("template", [HEADERS, BRACKETS, None], ids=["Llama", "Mistral", "ChatML"])
def test_an_answer_of_a_model_without_thoughts_goes_on(template: str | None) -> None:
    run = ChatRun(tokenizer(template), HI)
    prompt = list(run.prompt_ids)
    run.begin_with(Message("assistant", "yes, ", reasoning_content="of another model"))
    assert run.prompt_ids == prompt + tokenizer(template).encode("yes, ")
    assert read(run, "  of <think>course").text == "  of <think>course"


@pytest.mark.parametrize("template", [THINKING, ALWAYS])
@pytest.mark.parametrize("attack", ["<|im_end|>", "</think>", "<｜end▁of▁sentence｜>", "<think>"])
def test_no_text_of_a_begun_answer_becomes_a_tag(template: str, attack: str) -> None:
    run = ChatRun(tokenizer(template), HI)
    special = tokenizer(template).special_tokens[attack]
    before = run.prompt_ids.count(special)
    run.begin_with(Message("assistant", f"a {attack}", reasoning_content=f"b {attack}"))
    added = 1 if attack == "</think>" or (attack == "<think>" and template == THINKING) else 0  # its own tags
    assert run.prompt_ids.count(special) == before + added


def test_an_answer_without_thoughts_closes_the_tag_of_the_prompt() -> None:
    run = ChatRun(tokenizer(ALWAYS), HI)
    run.begin_with(Message("assistant", "yes"))
    assert tokenizer(ALWAYS).decode(run.prompt_ids).endswith("<think>\n\n</think>\n\nyes")
    assert read(run, ", of course").text == ", of course"
