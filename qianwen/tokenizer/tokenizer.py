"""Text ↔ ids. `encode` never returns a control token: `<|im_end|>` in a text is encoded as ten ordinary characters.

A text is normalised (`normal.py`: NFC, no surrogates), split by the pattern of the vocabulary (Qwen's splits digits one
by one) and encoded by tiktoken, or by gigatoken for corpora (`fast.py`). Any string of any length can be encoded
(`long_pieces.py`). Templates insert control ids by name (`chat/render.py`).

>>> tokenizer = Tokenizer.qwen()
>>> tokenizer.encode("通义千问")
[31935, 64559, 99320, 56007]
>>> tokenizer.decode([31935, 64559, 99320, 56007])
'通义千问'
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
import tiktoken

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr
from qianwen.tokenizer.fast import Encode, fast_encoder
from qianwen.tokenizer.long_pieces import PROBE_EVERY, encode_pieces, may_have_long_piece
from qianwen.tokenizer.normal import normal_text, unspelled
from qianwen.tokenizer.patterns import grouped
from qianwen.tokenizer.template_files import QWEN_V1, TemplateSource, read_template
from qianwen.tokenizer.vocab import Vocabulary
from qianwen.tokenizer.vocab_files import load_vocabulary, qwen_vocabulary, save_vocabulary

FAST_FROM = 1 << 18  # characters in one call from which the half second to set up gigatoken is worth it
THREADED_FROM = 1 << 9  # mean characters of a text from which threads are faster; below, they wait for each other
RUN = 1 << 16  # characters of one task of a thread, so that the overhead of a task is small

T = TypeVar("T")


class Tokenizer:
    """Encodes and decodes with one vocabulary. With `fast` off, gigatoken is not imported.

    `template` is the chat template of its model, as `chat/render.py` runs it; None: the one that fits the vocabulary.
    """

    def __init__(self, vocabulary: Vocabulary, *, fast: bool = True, template: TemplateSource | None = None) -> None:
        self.vocabulary, self.template = vocabulary, template
        self.special_tokens = dict(vocabulary.special_tokens)
        self.special_ids = frozenset(self.special_tokens.values())
        self.vocab_size = vocabulary.size
        self.control_ids = frozenset(vocabulary.control_tokens.values())
        self._bytes = _Bytes({rank: token for token, rank in vocabulary.ranks.items()})
        self._bytes |= {token: name.encode() for name, token in self.special_tokens.items()}
        try:  # the encoder has no special tokens, so it cannot return one
            self._encoding = tiktoken.Encoding(
                "qianwen",
                pat_str=grouped(vocabulary.pattern),
                mergeable_ranks=dict(vocabulary.ranks),
                special_tokens={},
            )
            self._unspelled = unspelled(vocabulary.ranks)
        except ValueError as error:
            raise ConfigError(tr("this vocabulary cannot be used: {error}", error=error)) from error
        self._is_fast = fast

    @classmethod
    def from_folder(cls, folder: str | Path) -> Tokenizer:
        """The tokenizer of a model folder, or of a file that `load_vocabulary` can read, with its chat template."""
        path = Path(folder)
        return cls(load_vocabulary(path), template=read_template(path if path.is_dir() else path.parent))

    @classmethod
    def qwen(cls) -> Tokenizer:
        """The tokenizer of Qwen, with 151,851 tokens."""
        return cls(qwen_vocabulary(), template=QWEN_V1)

    def save(self, folder: str | Path) -> None:
        """Write the vocabulary to `folder` in every file format."""
        save_vocabulary(self.vocabulary, folder)

    @property
    def eod_id(self) -> int:
        """End of document, and padding."""
        return self.special_id("<|endoftext|>")

    @property
    def im_start_id(self) -> int:
        """Start of a turn in ChatML."""
        return self.special_id("<|im_start|>")

    @property
    def im_end_id(self) -> int:
        """End of a turn in ChatML."""
        return self.special_id("<|im_end|>")

    def special_id(self, name: str) -> int:
        """The id of a special token. Raises ConfigError if the vocabulary has no special token of that name."""
        if name not in self.special_tokens:
            raise ConfigError(tr("this vocabulary has no token {name}", name=name))
        return self.special_tokens[name]

    # ---- text → ids -------------------------------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """The ids of any string; none of them is a special token."""
        text = self._normal(text)
        return list(self._encode_long(text)) if self._is_long(text) else self._encoding.encode_ordinary(text)

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """`encode` of each text, on all cores."""
        texts = list(texts)
        if self._faster(texts):
            return [ids.tolist() for ids in self.encode_arrays(texts)]
        return _in_threads(self.encode, texts)

    def encode_array(self, text: str) -> np.ndarray:
        """`encode` as int32: [num_tokens]."""
        return self.encode_arrays([text])[0]

    def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
        """`encode_array` of each text, on all cores. For corpora: Python integers would take longer than BPE."""
        if faster := self._faster(texts):
            normal = list(map(self._normal, texts))
            long = {number: text for number, text in enumerate(normal) if self._is_long(text)}
            found = faster(["" if number in long else text for number, text in enumerate(normal)])
            for number, text in long.items():
                found[number] = np.fromiter(self._encode_long(text), np.int32)
            return found
        return _in_threads(lambda text: np.array(self.encode(text), np.int32), texts)  # `encode_to_numpy` is slower

    def _normal(self, text: str) -> str:
        text = normal_text(text, self.vocabulary.nfc)
        return self._unspelled.sub("\ufffd", text) if self._unspelled else text

    def _is_long(self, text: str) -> bool:
        return len(text) > PROBE_EVERY and may_have_long_piece(text, self.vocabulary.pattern)

    def _encode_long(self, text: str) -> Iterator[int]:
        return encode_pieces(text, self.vocabulary.pattern, self._encoding._encode_single_piece, self.token_bytes)

    @cached_property
    def _fast(self) -> Encode | None:
        return fast_encoder(self.vocabulary, self._encoding.encode_ordinary) if self._is_fast else None

    def _faster(self, texts: Sequence[str]) -> Encode | None:
        """gigatoken, if it is loaded already or the texts are long enough to load it."""
        return self._fast if "_fast" in self.__dict__ or sum(map(len, texts)) >= FAST_FROM else None

    # ---- ids → text -------------------------------------------------------------------------------------------

    def decode(self, ids: Iterable[int], errors: str = "replace", skip_special: bool = False) -> str:
        """The text of ids. `errors` sets how invalid UTF-8 is handled (`replace`, `ignore`, `strict`).

        `skip_special` removes control tokens only. Tags such as <tool_call> and ids after the control tokens remain.
        """
        kept = (token for token in ids if token not in self.control_ids) if skip_special else ids
        return self.decode_bytes(kept).decode("utf-8", errors)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ids. Unused ids, such as the padding rows of a model, have no bytes."""
        return b"".join(map(self._bytes.__getitem__, ids))

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one id."""
        return self._bytes[token]


class _Bytes(dict[int, bytes]):
    def __missing__(self, token: int) -> bytes:
        return b""


def _in_threads(encode: Callable[[str], T], texts: Sequence[str]) -> list[T]:
    """`encode` of each text in threads; tiktoken releases the GIL. A task is a run of texts, not a single text."""
    size = sum(map(len, texts))
    num_threads = min(os.cpu_count() or 1, len(texts), size // RUN)
    if num_threads < 2 or size < THREADED_FROM * len(texts):
        return [encode(text) for text in texts]
    with ThreadPoolExecutor(num_threads) as pool:
        return list(chain.from_iterable(pool.map(lambda run: [*map(encode, run)], _runs(texts))))


def _runs(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """`texts` in order, split into runs of at least `RUN` characters."""
    start = size = 0
    for end, text in enumerate(texts, start=1):
        size += len(text)
        if size >= RUN or end == len(texts):
            yield texts[start:end]
            start, size = end, 0
