"""The categories of harm, with their names and what a refusal says about each.

The first six are kinds of harm; `jailbreak` is any request to drop the rules, whatever it is about. The Qwen report
names violence, bias and pornography (section 3.1); the others are those that evaluation sets measure.
"""

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

from qianwen.runtime.translation import language as user_language

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")


@dataclass(frozen=True)
class Category:
    """A kind of harm. `reasons` are sentences by language: why a request of this kind is refused."""

    name: str
    titles: dict[Language, str]
    reasons: dict[Language, list[str]]


@functools.cache
def categories() -> dict[str, Category]:
    """All categories by name, in the order of reports."""
    return {
        name: Category(
            name,
            {language: entry[language] for language in LANGUAGES},
            {language: entry[f"reason_{language}"] for language in LANGUAGES},
        )
        for name, entry in read_texts("taxonomy").items()
    }


def category_title(name: str) -> str:
    """The name of a category in the user's language; a name that is of another set stays as it is."""
    category = categories().get(name)
    return category.titles["zh" if user_language() == "zh" else "en"] if category else name


@functools.cache
def read_texts(name: str) -> dict[str, Any]:
    """A TOML file of this folder."""
    return tomllib.loads(resources.files("qianwen.align.safety").joinpath(f"{name}.toml").read_text(encoding="utf-8"))
