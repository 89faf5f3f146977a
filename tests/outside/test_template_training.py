"""What is learned of a dialogue that a chat template wrote: the answers and their ends, in every family."""

import pytest

from qianwen.chat import FunctionSpec, Message, ToolCall, render
from qianwen.runtime.errors import ConfigError

from .test_chat_templates import ALWAYS, HEADERS, HI, JOINS, THINKING, tokenizer, with_default

DIALOGUE = [Message("user", "q"), Message("assistant", "one"), Message("user", "\nr"), Message("assistant", "two\n")]


@pytest.mark.parametrize(
    ("template", "want"),
    [(with_default("s"), "one<|im_end|>two\n<|im_end|>"), (HEADERS, "one<|eot_id|>two<|eot_id|>"),
     (ALWAYS, "one<｜end▁of▁sentence｜>two\n<｜end▁of▁sentence｜>"), (None, "one<|im_end|>two\n<|im_end|>"),
     (THINKING, "one<|im_end|>two\n<|im_end|>"), (JOINS, "one<|end|>two\n<|end|>")],
)  # fmt: skip
def test_training_learns_the_answers_and_their_ends(template: str | None, want: str) -> None:
    ours = tokenizer(template)
    rendered = render(DIALOGUE, ours)
    learned = [token for token, learn in zip(rendered.ids, rendered.loss_mask, strict=True) if learn]
    assert ours.decode(learned) == want


def test_an_empty_block_of_thoughts_is_not_learned() -> None:
    template = THINKING.replace(
        "'\\n' + text", "'\\n' + ('<think>\\n\\n</think>\\n\\n' if loop.last and message.role != 'user' else '') + text"
    )
    ours = tokenizer(template)
    rendered = render(DIALOGUE, ours)
    learned = [token for token, learn in zip(rendered.ids, rendered.loss_mask, strict=True) if learn]
    assert "</think>" in ours.decode(rendered.ids) and ours.decode(learned) == "one<|im_end|>two\n<|im_end|>"


def test_results_of_tools_in_an_answer_are_not_learned() -> None:
    ours, call = tokenizer(HEADERS), (ToolCall("f", "{}"),)
    messages = [*HI, Message("assistant", "", tool_calls=call), Message("tool", "Rain"), Message("assistant", "Wet.")]
    rendered = render(messages, ours, functions=[FunctionSpec("f")])
    learned = ours.decode([token for token, learn in zip(rendered.ids, rendered.loss_mask, strict=True) if learn])
    assert "Action: f" in learned and "Wet." in learned and "Rain" not in learned and learned.endswith("<|eot_id|>")


@pytest.mark.parametrize("mask", ["memo", "reference"])
def test_the_masks_of_the_report_are_the_same_with_a_template(mask) -> None:
    """For the text that both write, the model's template and our ChatML mark the same."""
    messages = [Message("system", "s"), *DIALOGUE]
    left, right = (render(messages, tokenizer(template), mask=mask) for template in (with_default(None), None))
    assert (left.ids, left.loss_mask) == (right.ids, right.loss_mask)
    with pytest.raises(ConfigError, match="clean"):
        render(messages, tokenizer(HEADERS), mask=mask)
