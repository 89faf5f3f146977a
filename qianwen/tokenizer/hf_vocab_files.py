"""Vocabulary files of Hugging Face: `tokenizer.json`, `vocab.json` + `merges.txt`, `tokenizer_config.json`.

`tokenizer.json` lists the merges and contains pattern, normalizer and special tokens. `tokenizer_config.json` lists the
special tokens again, with the flag `special` for control tokens; only `write_tokenizer_config` writes it.
Not here: tokenizer.json files whose merges are not in the order of ids.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.runtime.files import atomic_file
from qianwen.runtime.placeholders import check_contents
from qianwen.runtime.translation import tr
from qianwen.tokenizer.byte_pairs import bytes_to_text, text_to_bytes
from qianwen.tokenizer.normal import unspelled
from qianwen.tokenizer.patterns import GPT2_DIGITS_PATTERN, GPT2_PATTERN, QWEN_PATTERN
from qianwen.tokenizer.vocab import CONTROL_TOKENS, Vocabulary, is_control_name

TOKENIZER_CONFIG = "tokenizer_config.json"


def check_ranks(path: str | Path, ranks: Mapping[bytes, int], *, is_whole: bool = True) -> None:
    """Raises CheckpointError for ranks that are not a vocabulary, or, with `is_whole` off, cannot extend one."""
    try:
        if is_whole:
            unspelled(ranks)
    except ValueError as error:
        raise CheckpointError(tr("{path}: not every byte is a token", path=path)) from error
    if len(set(ranks.values())) != len(ranks) or b"" in ranks:
        raise CheckpointError(tr("{path}: two tokens have the same id, or one is empty", path=path))


def read_special_tokens(path: Path) -> dict[str, Any]:
    """The fields of a Vocabulary set by the files beside `path`; empty if these list no special tokens."""
    added = _added_beside(path)
    return _special_fields(added) if added else {}


def _added_beside(path: Path) -> dict[int, dict[str, Any]]:
    """Added tokens by id, from `tokenizer_config.json`, and from `added_tokens.json` in older folders."""
    added: dict[int, dict[str, Any]] = {}
    if (older := path.with_name("added_tokens.json")).exists():
        added |= {token: {"id": token, "content": text} for text, token in _json(older).items()}
    if (config := path.with_name(TOKENIZER_CONFIG)).exists():
        listed = _json(config).get("added_tokens_decoder") or {}
        added |= {int(token): {**entry, "id": int(token)} for token, entry in listed.items()}
    return added


def _special_fields(added: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    """The fields of a Vocabulary set by a list of added tokens."""
    tokens = {added[token]["content"]: token for token in sorted(added)}
    is_control = {text: added[token].get("special", is_control_name(text)) for text, token in tokens.items()}
    return {"special_tokens": tokens, "visible": frozenset(text for text, control in is_control.items() if not control)}


def read_vocab_json(path: Path) -> dict[bytes, int]:
    """The ranks of a `vocab.json` and the `merges.txt` beside it."""
    ids, beside = _json(path), path.with_name("merges.txt")
    if not beside.exists():
        raise CheckpointError(
            tr("{path} needs {name} beside it; fetch the rest of the model", path=path, name=beside.name)
        )
    check_contents(beside)
    lines = beside.read_text(encoding="utf-8").split("\n")
    merges = [line.replace(" ", "", 1) for line in lines[lines[0].startswith("#version") :] if line]
    return _ranks(path, ids, merges, ())


def read_tokenizer_json(path: Path) -> Vocabulary:
    """The vocabulary in a `tokenizer.json`. Raises ConfigError if it is not byte-level BPE."""
    data = _json(path)
    model = data["model"]
    if model.get("type", "BPE") != "BPE" or model.get("byte_fallback") or model.get("continuing_subword_prefix"):
        raise ConfigError(tr("{path}: only byte-level BPE is supported, not {kind}", path=path, kind=model.get("type")))
    added = {entry["id"]: entry for entry in data.get("added_tokens") or ()}
    special = _special_fields(_added_beside(path) | added)
    merges = [merge.replace(" ", "", 1) if isinstance(merge, str) else "".join(merge) for merge in model["merges"]]
    ranks = _ranks(path, model["vocab"], merges, special["special_tokens"].keys())
    return Vocabulary(ranks, pattern=_pattern(path, data.get("pre_tokenizer")), nfc=_nfc(path, data), **special)


def _ranks(path: Path, ids: dict[str, int], merged: list[str], special: Collection[str]) -> dict[bytes, int]:
    """Ids as ranks. Valid only if the merges, in order, create all longer tokens in the order of their ids."""
    order = [ids.get(text, -1) for text in merged]
    regular = {text: token for text, token in ids.items() if text not in special}
    unmade = sum(len(text) > 1 for text in regular.keys() - set(merged))
    if unmade or -1 in order or any(later < earlier for earlier, later in pairwise(order)):
        raise ConfigError(tr("{path}: the merges do not create the tokens in the order of their ids", path=path))
    try:
        ranks = {text_to_bytes(text): token for text, token in regular.items()}
    except KeyError as error:
        message = "{path}: the character {char} is not in the alphabet of byte-level BPE; fetch the file again"
        raise ConfigError(tr(message, path=path, char=error)) from error
    check_ranks(path, ranks)
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
    message = "{path}: pre-tokenizers {kinds} are not supported; use Split or Digits before ByteLevel"
    raise ConfigError(tr(message, path=path, kinds=kinds))


def _nfc(path: Path, data: dict[str, Any]) -> bool:
    normalizer = data.get("normalizer") or {"normalizers": []}
    kinds = {step["type"] for step in normalizer.get("normalizers", [normalizer])}
    if kinds - {"NFC"}:
        raise ConfigError(tr("{path}: normalizer {kinds} is not supported; only NFC is", path=path, kinds=kinds))
    return bool(kinds)


def _json(path: Path) -> dict[str, Any]:
    try:
        check_contents(path)
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except CheckpointError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(tr("{path} is not readable JSON: {reason}", path=path, reason=error)) from error


# ---- writing ----------------------------------------------------------------------------------------------------


def write_hf_files(vocabulary: Vocabulary, folder: Path) -> None:
    """Write `vocab.json`, `merges.txt`, `tokenizer.json` and `tokenizer_config.json`."""
    ordered = sorted(vocabulary.ranks.items(), key=lambda item: item[1])
    ids = {bytes_to_text(token): rank for token, rank in ordered}
    merges = [f"{bytes_to_text(left)} {bytes_to_text(right)}" for left, right in vocabulary.merges()]
    with atomic_file(folder / "merges.txt", "w") as file:
        file.write("".join(f"{line}\n" for line in ("#version: 0.2", *merges)))
    for name, contents in (("vocab.json", ids), ("tokenizer.json", _tokenizer_json(vocabulary, ids, merges))):
        with atomic_file(folder / name, "w") as file:
            json.dump(contents, file, ensure_ascii=False, indent=None if name == "vocab.json" else 1)
    end = CONTROL_TOKENS[0] if CONTROL_TOKENS[0] in vocabulary.special_tokens else None
    write_tokenizer_config(vocabulary, folder, eos_token=end, pad_token=end)


def write_tokenizer_config(
    vocabulary: Vocabulary, folder: Path, *, eos_token: str | None, pad_token: str | None, **fields: Any
) -> None:
    """Write `tokenizer_config.json`, with more `fields` such as `chat_template`."""
    config = {
        # The generic class uses tokenizer.json unchanged; Qwen2's class adds Qwen's pattern and can read vocab.json.
        "tokenizer_class": "Qwen2Tokenizer" if vocabulary.pattern == QWEN_PATTERN else "PreTrainedTokenizerFast",
        "added_tokens_decoder": {str(token): entry for token, entry in _added(vocabulary).items()},
        "additional_special_tokens": list(vocabulary.control_tokens),
        "bos_token": None,
        "eos_token": eos_token,
        "pad_token": pad_token,
        "unk_token": None,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
    }
    with atomic_file(folder / TOKENIZER_CONFIG, "w") as file:
        json.dump(config | fields, file, indent=2, ensure_ascii=False)
        file.write("\n")


def _added(vocabulary: Vocabulary) -> dict[int, dict[str, Any]]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    ordered = sorted(vocabulary.special_tokens.items(), key=lambda item: item[1])
    return {token: {"content": text, **flags, "special": vocabulary.is_control(text)} for text, token in ordered}


def _tokenizer_json(vocabulary: Vocabulary, ids: dict[str, int], merges: list[str]) -> dict[str, Any]:
    added = [{"id": token, **entry} for token, entry in _added(vocabulary).items()]
    if len(ids) != max(ids.values()) + 1:  # other readers renumber added tokens that are not listed here
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
