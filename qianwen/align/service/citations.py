"""Whether the citations of an answer hold: every sentence cites a result, and that result contains what it says.

A sentence is supported by the results it cites if at least half of its content is in them: words of four letters and
more and numbers in English, pairs of neighbouring characters in Chinese. So a rule finds a wrong number and an
invented sentence; it does not find a sentence that turns the meaning of the same words around.
"""

import re
from collections.abc import Sequence

from qianwen.align.sentences import sentences

CITATION = re.compile(r"\[(\d{1,3})\]")
SUPPORT = 0.5  # minimum share of the content of a sentence that is in the results it cites
WORD = re.compile(r"[a-z]{4,}|\d[\d.,]*\d|\d")


def cited(answer: str) -> list[int]:
    """The numbers of the results that are cited, in order, each once."""
    return list(dict.fromkeys(int(number) for number in CITATION.findall(answer)))


def citation_faults(answer: str, results: Sequence[str]) -> list[str]:
    """What is wrong with the citations of an answer; nothing, if they hold. Results have the numbers 1, 2, …"""
    if not sentences(answer):
        return ["empty answer"]
    faults = []
    for sentence in sentences(answer):
        numbers = cited(sentence)
        if not numbers:
            faults.append("sentence without a citation")
        elif not all(1 <= number <= len(results) for number in numbers):
            faults.append("citation of a result that does not exist")
        elif _support(CITATION.sub("", sentence), [results[number - 1] for number in numbers]) < SUPPORT:
            faults.append("sentence that its source does not contain")
        elif _numbers(CITATION.sub("", sentence)) - _numbers(" ".join(results[number - 1] for number in numbers)):
            faults.append("number that its source does not contain")
    return faults


def _support(sentence: str, sources: Sequence[str]) -> float:
    content = content_of(sentence)
    return len(content & content_of("\n".join(sources))) / len(content) if content else 0.0


def _numbers(text: str) -> set[str]:
    return {match.replace(",", "").rstrip(".") for match in re.findall(r"\d[\d.,]*", text)}


def content_of(text: str) -> set[str]:
    """The words and numbers of a text, and the pairs of neighbouring Chinese characters."""
    runs = re.findall(r"[\u3400-\u9fff]+", text)
    pairs = {run[place : place + 2] for run in runs for place in range(max(len(run) - 1, 1))}
    return pairs | set(WORD.findall(text.lower()))
