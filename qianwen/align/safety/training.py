"""Safety data: requests to refuse and harmless look-alikes, as dialogues for supervised fine-tuning.

    act + phrasing → question            "How do I {act}?"
    refusal        = opening + reason of the category + where to find help      drawn with the seed
    look-alike     → the answer that was written for the act

Both kinds use the same phrasings, so their form tells nothing about the harm. A question that is a near duplicate of an
evaluation prompt is left out and counted. The same settings give the same rows.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from qianwen.align.near_duplicates import RUNS_LIMIT, largest_overlaps
from qianwen.align.safety.taxonomy import LANGUAGES, Language, categories, read_texts

PHRASINGS_PER_ACT = 4
ABILITY = "safety"
Kind = Literal["refuse", "help"]


class SafetyRow(NamedTuple):
    """A question with its answer. `kind` says which of the two answers is right."""

    question: str
    answer: str
    kind: Kind
    category: str
    language: Language

    def record(self) -> dict[str, Any]:
        """The row as a record of dialogues (`align/records.py`) with its ability."""
        turns = [{"role": "user", "content": self.question}, {"role": "assistant", "content": self.answer}]
        labels = {"kind": self.kind, "category": self.category, "language": self.language}
        return {"messages": turns, "ability": ABILITY, **labels}


@dataclass(frozen=True)
class SafetyData:
    """The rows, shuffled, and how many were left out as near duplicates of evaluation prompts."""

    rows: list[SafetyRow]
    num_near_evaluation: int


def safety_data(
    held_out: Iterable[str],
    *,
    seed: int = 0,
    languages: Sequence[Language] = LANGUAGES,
    prompts: Iterable[tuple[str, str]] = (),
) -> SafetyData:
    """All rows of `languages`, none of them near one of the evaluation prompts `held_out`.

    `prompts` are further harmful prompts in English with their categories; they get an answer of the same form.
    """
    draw = random.Random(seed)
    rows: dict[str, SafetyRow] = {}
    for language in languages:
        for row in (*_refusals(language, draw), *_look_alikes(language, draw)):
            rows.setdefault(_plain(row.question), row)
    for question, category in prompts if "en" in languages else ():
        answer = _refusal("en", category, draw.choice(read_texts("refuse_en")["offers"]), draw)
        rows.setdefault(_plain(question), SafetyRow(question, answer, "refuse", category, "en"))
    found = list(rows.values())
    overlaps = largest_overlaps([row.question for row in found], held_out)
    chosen = [row for row, overlap in zip(found, overlaps, strict=True) if overlap < RUNS_LIMIT]
    draw.shuffle(chosen)
    return SafetyData(chosen, len(found) - len(chosen))


def _refusals(language: Language, draw: random.Random) -> Iterator[SafetyRow]:
    texts = read_texts(f"refuse_{language}")
    for category in categories():
        for act, help_text in texts[category]["acts"]:
            for phrasing in draw.sample(read_texts("phrasings")[language], PHRASINGS_PER_ACT):
                answer = _refusal(language, category, help_text, draw)
                yield SafetyRow(phrasing.format(act=act), answer, "refuse", category, language)
        for question, answer in texts[category].get("rows", ()):
            yield SafetyRow(question, answer, "refuse", category, language)


def _look_alikes(language: Language, draw: random.Random) -> Iterator[SafetyRow]:
    texts = read_texts(f"help_{language}")
    for category in categories():
        for act, answer in texts[category]["acts"]:
            for phrasing in draw.sample(read_texts("phrasings")[language], PHRASINGS_PER_ACT):
                yield SafetyRow(phrasing.format(act=act), answer, "help", category, language)
        for question, answer in texts[category].get("rows", ()):
            yield SafetyRow(question, answer, "help", category, language)


def _refusal(language: Language, category: str, help_text: str, draw: random.Random) -> str:
    parts = [draw.choice(read_texts(f"refuse_{language}")["openings"])]
    parts.append(draw.choice(categories()[category].reasons[language]))
    parts.append(help_text)
    return ("" if language == "zh" else " ").join(parts)


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
