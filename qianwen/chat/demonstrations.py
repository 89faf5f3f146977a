"""Solved examples in a conversation: how other questions were answered with tools.

    Message("user", "What is 3 * 4?", name="example")
    Message("assistant", "", tool_calls=(ToolCall("calculator", '{"expression": "3 * 4"}'),))
    Message("tool", "12")
    Message("assistant", "12.")
    Message("user", "What is 5 * 6?")

A user message named `example` and the messages up to the next user message are one example. In ReAct the examples are
part of the instruction (`react_prompts.py`); in every other format they are earlier turns of the conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qianwen.chat.messages import Message
from qianwen.runtime.errors import RequestError, excerpt
from qianwen.runtime.translation import tr

EXAMPLE = "example"  # the name of the user in an example


def split_examples(messages: Sequence[Message]) -> tuple[list[list[Message]], list[Message]]:
    """The examples, each as its messages, and the conversation without them. RequestError for one without an answer."""
    examples: list[list[Message]] = []
    rest: list[Message] = []
    current = rest
    for message in messages:
        if is_example(message):
            examples.append([])
            current = examples[-1]
        elif message.role in ("user", "system"):
            current = rest
        current.append(message)
    for example in examples:
        last = example[-1]
        if last.role != "assistant" or last.tool_calls:
            question = excerpt(example[0].content)
            raise RequestError(
                tr("the example {question} has no answer; its last message must be one", question=question)
            )
    return examples, rest


def is_example(message: Message) -> bool:
    """Whether a message begins an example."""
    return message.role == "user" and message.name == EXAMPLE


def as_turns(messages: Sequence[Message]) -> list[Message]:
    """The conversation with its examples as earlier turns: without the name, which a chat template might write."""
    if any(is_example(message) for message in messages):
        split_examples(messages)
    return [replace(message, name=None) if is_example(message) else message for message in messages]
