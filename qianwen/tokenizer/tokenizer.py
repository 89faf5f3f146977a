"""Text ↔ ids. What `encode` returns never holds a control token: `<|im_end|>` in a text is nine characters like others.

Text is NFC-normalised, cut by the vocabulary's pattern (Qwen's: every digit for itself) and merged by tiktoken. A lone
surrogate becomes U+FFFD. Runs of blanks beyond what the pattern engine can take are cut before it sees them.
Control ids are placed by templates (`chat/chatml.py`), which ask for them by name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import tiktoken

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.language import tr
from qianwen.tokenizer.vocab import Vocabulary, load_vocabulary, qwen_vocabulary, save_vocabulary

MAX_BLANKS = 100_000  # the pattern engine fails on about ten times as many
_LONG_BLANKS = re.compile(rf"\s{{{MAX_BLANKS}}}(?=\s)")


class Tokenizer:
    """Encodes and decodes with one vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.special_tokens: Mapping[str, int] = dict(vocabulary.special_tokens)
        self.special_ids = frozenset(self.special_tokens.values())
        self.vocab_size = vocabulary.size
        self._encoding = tiktoken.Encoding(
            "qianwen", pat_str=vocabulary.pattern, mergeable_ranks=dict(vocabulary.ranks), special_tokens={}
        )
        self._bytes = {rank: token for token, rank in vocabulary.ranks.items()}
        self._bytes |= {token: name.encode() for name, token in self.special_tokens.items()}

    @classmethod
    def from_folder(cls, folder: str | Path) -> Tokenizer:
        """The tokenizer of a model folder."""
        return cls(load_vocabulary(folder))

    @classmethod
    def qwen(cls) -> Tokenizer:
        """Qwen's own, with 151,851 tokens."""
        return cls(qwen_vocabulary())

    def save(self, folder: str | Path) -> None:
        """Write the vocabulary in every form."""
        save_vocabulary(self.vocabulary, folder)

    @property
    def eod_id(self) -> int:
        return self.special_id("<|endoftext|>")

    @property
    def im_start_id(self) -> int:
        return self.special_id("<|im_start|>")

    @property
    def im_end_id(self) -> int:
        return self.special_id("<|im_end|>")

    def special_id(self, name: str) -> int:
        """The id of a control token. ConfigError if this vocabulary has none of that name."""
        if name not in self.special_tokens:
            raise ConfigError(tr("this vocabulary has no token {name}", name=name))
        return self.special_tokens[name]

    def encode(self, text: str) -> list[int]:
        """Ids of a text, none of them a control token."""
        return [token for part in _parts(text) for token in self._encoding.encode_ordinary(part)]

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """`encode` of each text."""
        return [self.encode(text) for text in texts]

    def encode_array(self, text: str) -> np.ndarray:
        """`encode` as int32."""
        return np.asarray(self.encode(text), dtype=np.int32)

    def decode(self, ids: Iterable[int], errors: str = "replace", skip_special: bool = False) -> str:
        """Text of ids; `errors` says what becomes of bytes that are no UTF-8."""
        kept = (token for token in ids if not (skip_special and token in self.special_ids))
        return self.decode_bytes(kept).decode("utf-8", errors)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Bytes of ids."""
        return b"".join(map(self.token_bytes, ids))

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one id; empty for an id between or behind the vocabulary's."""
        return self._bytes.get(token, b"")


def _parts(text: str) -> list[str]:
    """The normalised text, cut inside runs of blanks too long for the pattern engine."""
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    if len(text) <= MAX_BLANKS:
        return [text]
    ends = [match.end() for match in _LONG_BLANKS.finditer(text)]
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]
