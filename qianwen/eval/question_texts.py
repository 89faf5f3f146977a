"""The questions in prompts that begin with worked examples.

Worked examples are what two prompts have in common before a blank line. If no other prompt has the same, they are what
begins with the same word as the question.
"""

import os
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

BREAK = "\n\n"  # before each worked example and before the question


def question_texts(prompts: Sequence[str]) -> list[str]:
    """Each prompt without the worked examples at its beginning."""
    order = sorted(range(len(prompts)), key=lambda index: prompts[index])
    shared = [0] * len(prompts)
    for one, two in pairwise(order):  # the longest common beginning is that of a neighbour
        length = common_length(prompts[one], prompts[two])
        shared[one], shared[two] = max(shared[one], length), length
    word = os.path.commonprefix([prompts[order[0]], prompts[order[-1]]]) if order else ""
    return [_without_shots(prompt, length, word) for prompt, length in zip(prompts, shared, strict=True)]


def common_length(first: str, second: str) -> int:
    """The number of characters in which two texts begin alike.

    >>> common_length("abcd", "abx")
    2
    """
    lengths = range(1, min(len(first), len(second)) + 1)
    return bisect_left(lengths, True, key=lambda length: first[:length] != second[:length])


def _without_shots(prompt: str, shared: int, word: str) -> str:
    """`shared`: the characters that another prompt begins with too; `word`: what all prompts begin with."""
    place = prompt.rfind(BREAK, 0, shared)
    if place < 0 and len(word) > 1:
        place = prompt.rfind(BREAK + word)
    question = prompt[place + len(BREAK) :] if place >= 0 else prompt
    return question if question.strip() else prompt
