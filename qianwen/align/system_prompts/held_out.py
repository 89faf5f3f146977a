"""The system prompts of `held_out.toml`: for evaluation, never for training."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from qianwen.align.system_prompts.rules import RULES, Rules

FILE = Path(__file__).with_name("held_out.toml")
KINDS = ("role", "style", "task", "behaviour")
NUM_TURNS = 6


@dataclass(frozen=True)
class HeldOutPrompt:
    """A system prompt, six user turns, and the rules for the answer to each."""

    name: str  # its number in the file, with kind and language
    kind: str
    language: str  # of the prompt and the turns; an answer may have to be in the other
    system: str
    turns: tuple[str, ...]
    rules: tuple[Rules, ...]
    is_unseen: bool  # it needs a rule that no training dialogue uses


@cache
def held_out_prompts() -> tuple[HeldOutPrompt, ...]:
    """All prompts, in the order of the file."""
    content = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return tuple(_prompt(number, row, content["turns"]) for number, row in enumerate(content["prompt"], start=1))


def _prompt(number: int, row: Mapping[str, Any], groups: Mapping[str, Any]) -> HeldOutPrompt:
    turns = groups[row["turns"]] if isinstance(row["turns"], str) else row["turns"]
    rules = tuple(row.get("at", {}).get(str(turn), row["rules"]) for turn in range(1, len(turns) + 1))
    name = f"{number:02}-{row['kind']}-{row['language']}"
    assert len(turns) == NUM_TURNS and row["kind"] in KINDS and all(each in RULES for rule in rules for each in rule), (
        name
    )
    is_unseen = row.get("unseen", False)
    return HeldOutPrompt(name, row["kind"], row["language"], row["system"], tuple(turns), rules, is_unseen)
