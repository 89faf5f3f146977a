"""The regular expressions that split a text into pieces before BPE: Qwen's, and GPT-2's, which other models use.

They are written exactly as in vocabulary files. `grouped` rewrites a pattern for the regex engines of tiktoken and
rustbpe. Those try alternatives one by one if any of them has a lookahead, and only the alternative for blanks has one.
With the other alternatives in a group, the group is compiled to one automaton, and splitting is up to a third faster.

>>> grouped(GPT2_PATTERN).endswith(r")|\\s+(?!\\S)|\\s+")
True
"""

from __future__ import annotations

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_BLANKS = r"\s+(?!\S)|\s+"
QWEN_PATTERN = rf"{_WORDS}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|{_BLANKS}"
# What `ByteLevel` of Hugging Face does without another pattern, and after `Digits`, which splits off digits first.
_GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+"
GPT2_PATTERN = rf"{_GPT2_WORDS}| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|{_BLANKS}"
GPT2_DIGITS_PATTERN = rf"{_GPT2_WORDS}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+|\s+(?=\p{{N}})|{_BLANKS}"


def grouped(pattern: str) -> str:
    """An equivalent pattern: `a|b|BLANKS` becomes `(?:a|b)|BLANKS`. With another ending, the pattern is unchanged."""
    words = pattern.removesuffix(f"|{_BLANKS}")
    return pattern if words == pattern else f"(?:{words})|{_BLANKS}"
