"""Add words to a vocabulary without changing an id (tokenization_note.md and add_merges.py of the Qwen release).

    1  a word is used if the pattern does not split it, and it is not a token yet
    2  it is encoded with the current vocabulary
    3  byte-pair merges are trained on these pieces, weighted by word frequency, until each word is one piece
    4  the merges become tokens in that order, from `start_id` on: by default after all other ids

So the intermediate merges of a word become tokens too. With few CJK words they may cross character boundaries: add the
single characters too, with higher frequencies. A model needs rows for the new ids, and training, to use them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import regex

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr
from qianwen.tokenizer.normal import normal_text
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.train import Pair, learn_merges
from qianwen.tokenizer.vocab import Vocabulary


@dataclass(frozen=True)
class Extension:
    """The extended vocabulary, its new tokens, and the words that were left out."""

    vocabulary: Vocabulary
    tokens: dict[bytes, int]
    split: dict[str, list[str]]  # word → its pieces, if the pattern splits it
    existing: list[str]  # words that are tokens already


def extend_vocabulary(vocabulary: Vocabulary, words: Mapping[str, int], start_id: int | None = None) -> Extension:
    """Add `words`, each with its frequency. `start_id` is raised to the number of regular tokens if it is smaller."""
    pattern = regex.compile(vocabulary.pattern)
    pieces = {word: pattern.findall(word) for word in words}
    split = {word: parts for word, parts in pieces.items() if len(parts) > 1}
    existing = [word for word in words if word.encode() in vocabulary.ranks]
    new = [word for word in words if word and word not in split and word not in existing]
    tokenizer = Tokenizer(vocabulary, fast=False)
    cut = [list(map(tokenizer.token_bytes, tokenizer.encode(word))) for word in new]
    first = vocabulary.size if start_id is None else max(start_id, len(vocabulary.ranks))
    made = dict.fromkeys(left + right for left, right in learn_merges(cut, [words[word] for word in new], _best))
    tokens = {token: first + i for i, token in enumerate(made)}
    grown = vocabulary.with_tokens(tokens)
    if len(grown.ranks) != len(vocabulary.ranks) + len(tokens):
        message = "ids from {first} on are in use; set --start-id to {size} or more"
        raise ConfigError(tr(message, first=first, size=vocabulary.size))
    return Extension(grown, tokens, split, existing)


def read_words(lines: Iterable[str]) -> dict[str, int]:
    """Lines `word TAB frequency`. Without a whole number there it is 1; a word that comes again adds up."""
    words: dict[str, int] = {}
    for line in lines:
        word, _, frequency = line.strip().partition("\t")
        word, frequency = normal_text(word), frequency.strip()
        if word:
            words[word] = words.get(word, 0) + (int(frequency) or 1 if frequency.isdecimal() else 1)
    return words


def _best(frequency: int, pair: Pair) -> tuple[int, int, int, str, bytes]:
    """The most frequent; then the shortest in characters, in bytes; then the first in the order of both."""
    token = pair[0] + pair[1]
    text = token.decode(errors="replace")
    return -frequency, len(text), len(token), text, token
