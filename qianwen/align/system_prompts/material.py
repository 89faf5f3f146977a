"""The texts of the training dialogues, in `material.toml`."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("material.toml")


@cache
def material(language: str) -> dict[str, Any]:
    """The texts of one language, `en` or `zh`."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))[language]


@cache
def word_pairs() -> tuple[tuple[str, str], ...]:
    """English words with their Chinese translation."""
    return tuple(
        (english, chinese)
        for english, chinese in tomllib.loads(FILE.read_text(encoding="utf-8"))["dictionary"]["pairs"]
    )
