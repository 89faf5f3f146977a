"""Replies with calls, cut anywhere: what a stream spells never depends on where it was cut (R39)."""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qianwen.chat.functions import CLOSE, OPEN, ReActCallReader, ToolCallReader
from qianwen.chat.model import collect
from qianwen.engine.detokenize import Detokenizer, StopStrings

from .conftest import full

WORDS = (
    *("The", "weather", "in", "杭州", "is", "🙂", "fine", "a\u0301"),
    *("<", ">", "tool", "\n", "{", "}", '"', "\\", "Action"),
)
STOPS = ("\nObservation", "好好", "<|")


def thinking_reader() -> ReActCallReader:
    """Of a prompt that ends in "Thought:"."""
    return ReActCallReader("thought")


READERS = (ReActCallReader, thinking_reader)


def words(rng: random.Random, most: int = 8) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(0, most)))


def arguments(rng: random.Random) -> str:
    value = {words(rng, 2): rng.choice([1, None, words(rng), [words(rng)], {"x": f"{OPEN}{CLOSE}"}, "\\\"'"])}
    return json.dumps(value, ensure_ascii=rng.random() < 0.5)


def tagged(rng: random.Random) -> str:
    """Text and calls as Qwen2.5 writes them, sound and broken."""
    parts = []
    for _ in range(rng.randint(1, 4)):
        body = f'\n{{"name": "f{rng.randint(0, 3)}", "arguments": {arguments(rng)}}}\n'
        forms = [words(rng), f"{OPEN}{body}{CLOSE}", f"{OPEN}{body[: rng.randint(0, len(body))]}"]
        parts += rng.choices(forms, weights=[4, 4, 2])
        parts.append(rng.choice(["", "\n", CLOSE[: rng.randint(0, 4)], OPEN[: rng.randint(0, 6)]]))
    return "".join(parts)


def react(rng: random.Random) -> str:
    """The same in the older format."""
    parts = [f"Thought: {words(rng)}\n" if rng.random() < 0.7 else words(rng)]
    for _ in range(rng.randint(0, 3)):
        code = f"```py\n{words(rng)}\nThought: {words(rng)}\n{rng.choice(['```', '``', ''])}"
        written = arguments(rng) if rng.random() < 0.8 else code
        parts.append(f"Action: f{rng.randint(0, 3)}\nAction Input: {written}\n")
        parts.append(rng.choice(["", "Observation: x\n", f"Thought: {words(rng)}\n"]))
    parts.append(rng.choice(["", f"Final Answer: {words(rng)}", "Action: f", "Action Input"]))
    return "".join(parts)


def transcripts(count: int) -> Iterator[tuple[Callable[[], Any], str]]:
    rng = random.Random(39)
    for number in range(count):
        yield (ToolCallReader, tagged(rng)) if number % 2 else (READERS[number // 2 % 2], react(rng))


def spelled(kind: Callable[[], Any], pieces: list[str]) -> tuple:
    reader = kind()
    deltas = [delta for piece in pieces for delta in reader.feed(piece)]
    message = collect([*deltas, *reader.finish()])
    return message.content, message.tool_calls


@pytest.mark.parametrize("count", [60, full(1000)])
def test_a_reply_cut_at_any_byte_spells_the_same(tokenizer, count, report):
    """Each byte is a token here; the detokenizer holds back half characters and what may become a stop string."""

    def pieces(data: bytes, cuts: list[int]) -> list[str]:
        detokenizer = Detokenizer(tokenizer, StopStrings(STOPS))
        texts = ["".join(map(detokenizer.add, data[a:b])) for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        return [*texts, detokenizer.finish()]

    num_cuts = 0
    for kind, reply in transcripts(count):
        data = reply.encode()
        whole = spelled(kind, pieces(data, []))
        assert spelled(kind, pieces(data, list(range(1, len(data))))) == whole, reply
        certain = "".join(pieces(data, []))
        for cut in range(len(certain) + 1):
            assert spelled(kind, [certain[:cut], certain[cut:]]) == whole, (reply, cut)
            num_cuts += 1
    report(R39_transcripts=count, cuts=num_cuts)
