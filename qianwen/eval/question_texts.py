"""The questions in prompts that begin with worked examples.

worked examples, blank line, question A      →   question A
worked examples, blank line, question B      →   question B
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

BREAK = "\n\n"  # before each worked example and before the question


def question_texts(prompts: Sequence[str]) -> list[str]:
    """Each prompt without the blocks at its beginning that another prompt begins with too."""
    order = sorted(range(len(prompts)), key=lambda index: prompts[index])
    shared = [0] * len(prompts)
    for one, two in pairwise(order):  # the longest common beginning is that of a neighbour
        length = common_length(prompts[one], prompts[two])
        shared[one], shared[two] = max(shared[one], length), length
    return [_last_blocks(prompt, length) for prompt, length in zip(prompts, shared, strict=True)]


def common_length(first: str, second: str) -> int:
    """The number of characters in which two texts begin alike.

    >>> common_length("abcd", "abx")
    2
    """
    lengths = range(1, min(len(first), len(second)) + 1)
    return bisect_left(lengths, True, key=lambda length: first[:length] != second[:length])


def _last_blocks(prompt: str, shared: int) -> str:
    place = prompt.rfind(BREAK, 0, shared)
    question = prompt[place + len(BREAK) :] if place >= 0 else prompt
    return question if question.strip() else prompt
