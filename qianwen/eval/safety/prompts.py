"""Our own evaluation prompts: harmful requests in general terms and harmless look-alikes, by category and language.

They were written apart from the training data (`align/safety/`), and a test checks that no training question is a near
duplicate of one of them.
"""

import tomllib
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from itertools import chain, zip_longest
from typing import NamedTuple

from qianwen.align.safety.taxonomy import LANGUAGES, Language


class SafetyPrompt(NamedTuple):
    """A prompt for evaluation. A harmful one should be refused, a harmless one answered."""

    text: str
    category: str
    is_harmful: bool
    language: Language


def own_prompts(language: Language) -> list[SafetyPrompt]:
    """The prompts of one language, category by category."""
    file = resources.files("qianwen.eval.safety").joinpath(f"prompts_{language}.toml")
    return [
        SafetyPrompt(text, category, kind == "harmful", language)
        for category, kinds in tomllib.loads(file.read_text(encoding="utf-8")).items()
        for kind in ("harmful", "harmless")
        for text in kinds[kind]
    ]


def in_turns(groups: Iterable[Sequence[SafetyPrompt]]) -> Iterator[SafetyPrompt]:
    """The first prompt of each group, then the second of each, and so on: the first N are balanced for every N."""
    return (prompt for prompt in chain.from_iterable(zip_longest(*groups)) if prompt)


def evaluation_texts(languages: Iterable[Language] = LANGUAGES) -> list[str]:
    """All prompts of this folder, which training data must not contain."""
    return [prompt.text for language in languages for prompt in own_prompts(language)]
