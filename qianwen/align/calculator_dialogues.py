"""Dialogues that teach a small model to use a calculator: generated products, seeded, some of them held out.

    call     What is 348 * 27?, with the description of the tool → a call, its result, and the answer from it
    react    the same turns in ReAct without the description, which is most of the tokens
    direct   What is 348 * 27? → 9396., without a tool: what the model can do alone
    copy     Copy: 348 * 27 → 348 * 27

A small model soon writes the labels of a call. Its mistakes are in the digits: every digit is a token of its own, so an
expression is copied in up to nine steps and a result in up to six. A small model learns to copy over the distances that
it saw. Therefore most exercises have a call's own distances, from the question to the expression and from the result to
the answer, and are short.

A product is held out by a hash of its two factors, in either order. A held-out product is in none of the dialogues.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from qianwen.chat.messages import FunctionSpec, Message, ToolCall, to_openai

QUESTIONS = ("What is {a} * {b}?", "What is {a} times {b}?", "Multiply {a} by {b}.")
COPIES = ("{text}", '{{"expression": "{text}"}}', "Final Answer: {text}.")
HELD_OUT = 0.1  # share of the products


@dataclass(frozen=True)
class Product:
    """Two factors, and the question for their product."""

    a: int
    b: int
    question: str

    @property
    def expression(self) -> str:
        return f"{self.a} * {self.b}"

    @property
    def value(self) -> str:
        return str(self.a * self.b)


@dataclass(frozen=True)
class Counts:
    """Number of dialogues of each kind."""

    call: int
    react: int
    direct: int
    copy: int


def products(part: str, seed: int) -> Iterator[Product]:
    """Questions for different products of a part (`train` or `held_out`), without end."""
    chance, before = random.Random(f"{part} {seed}"), set()
    while True:
        a, b = _factor(chance), _factor(chance)
        if is_held_out(a, b) == (part == "held_out") and (a, b) not in before:
            before.add((a, b))
            yield Product(a, b, chance.choice(QUESTIONS).format(a=a, b=b))


def is_held_out(a: int, b: int) -> bool:
    """Whether the product of `a` and `b` is only for the test."""
    digest = hashlib.sha256(f"{min(a, b)} {max(a, b)}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT * 2**32


def _factor(chance: random.Random) -> int:
    """A number of two or three digits, both lengths equally often."""
    size = chance.choice((2, 3))
    return chance.randint(10 ** (size - 1), 10**size - 1)


def dialogues(calculator: FunctionSpec, counts: Counts, seed: int) -> list[dict[str, Any]]:
    """Training records as `qianwen sft` reads them, in random order. `calculator` has one argument, an expression."""
    source, chance = products("train", seed), random.Random(seed)
    rows = [_call(next(source), calculator) for _ in range(counts.call)]
    rows += [_react(next(source), calculator) for _ in range(counts.react)]
    rows += [_direct(next(source)) for _ in range(counts.direct)]
    rows += [_copy(next(source), chance) for _ in range(counts.copy)]
    chance.shuffle(rows)
    return rows


def _call(product: Product, calculator: FunctionSpec) -> dict[str, Any]:
    turns = _turns(product, calculator, product.question, f"{product.value}.")
    return turns | {"tools": [calculator.to_openai()]}


def _react(product: Product, calculator: FunctionSpec) -> dict[str, Any]:
    """The text of `_call` behind the description: without functions, the labels of question and answer are written."""
    answer = f"Thought: I now know the final answer.\nFinal Answer: {product.value}."
    return _turns(product, calculator, f"Question: {product.question}", answer)


def _turns(product: Product, calculator: FunctionSpec, question: str, answer: str) -> dict[str, Any]:
    (argument,) = calculator.parameters["properties"]
    call = ToolCall(calculator.name, json.dumps({argument: product.expression}), id="call_0")
    return _row(
        Message("user", question),
        Message("assistant", "I need the calculator.", tool_calls=(call,)),
        Message("tool", product.value, tool_call_id=call.id),
        Message("assistant", answer),
    )


def _direct(product: Product) -> dict[str, Any]:
    return _row(Message("user", product.question), Message("assistant", f"{product.value}."))


def _copy(product: Product, chance: random.Random) -> dict[str, Any]:
    text = chance.choice((product.expression, product.value))
    return _row(Message("user", f"Copy: {text}"), Message("assistant", chance.choice(COPIES).format(text=text)))


def _row(*messages: Message) -> dict[str, Any]:
    return {"messages": [to_openai(message) for message in messages]}
