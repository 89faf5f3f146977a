"""`generation_config.json`: how the author of a model recommends to sample, and the tokens that end an answer.

Other programs write odd values here. Those with a clear meaning are read as they are meant:

    null                          the field is absent
    top_k -1, top_k 20.0          all tokens; 20
    top_p 0                       only the most likely token, so top_k is 1
    eos_token_id 5, [[5], [7]]    [5]; [5, 7]

All others are an error that names the file, because a model with wrong settings writes worse text without a warning.
GGUF files have the same values under names of llama.cpp (`general.sampling.…`). The values for models that bring none
are in `recommended_sampling.py`.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qianwen.checkpoints.hf_weights import CONFIG, read_json
from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.translation import tr

GENERATION = "generation_config.json"
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
RANGES = {"temperature": (0.0, 100.0), "top_p": (0.0, 1.0), "min_p": (0.0, 1.0), "repetition_penalty": (0.01, 100.0)}
GGUF_NAMES = {
    "temperature": "general.sampling.temp",
    "top_k": "general.sampling.top_k",
    "top_p": "general.sampling.top_p",
    "min_p": "general.sampling.min_p",
    "repetition_penalty": "general.sampling.penalty_repeat",
}
GGUF_ENDS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")


def read_generation(folder: Path) -> dict[str, Any]:
    """The settings of a model folder; without such a file only the end token of `config.json`, as in transformers.

    `eos_token_id` is always a list. Raises CheckpointError for a value that has no meaning.
    """
    path = folder / GENERATION
    if path.exists():
        return _plain(read_json(path), path)
    path = folder / CONFIG
    ends = read_json(path).get("eos_token_id") if path.exists() else None
    return _plain({"eos_token_id": ends}, path)


def gguf_generation(metadata: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The same settings from the metadata of a GGUF file."""
    values = {name: _decimal(metadata.get(key)) for name, key in GGUF_NAMES.items()}
    return _plain(values | {"eos_token_id": [metadata.get(key) for key in GGUF_ENDS]}, path)


def _decimal(value: Any) -> Any:
    """The decimal number that was rounded to float32: 0.7, not 0.699999988079071."""
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _plain(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    plain = {name: value for name, value in values.items() if value is not None}
    for name, (low, high) in RANGES.items():
        if name in plain and not (_is_number(plain[name]) and low <= plain[name] <= high):
            expected = tr("a number from {low} to {high}", low=low, high=high)
            raise _error(path, name, plain[name], expected)
    if "top_k" in plain:
        if not _is_number(plain["top_k"]) or plain["top_k"] != int(plain["top_k"]):
            raise _error(path, "top_k", plain["top_k"], tr("an integer"))
        plain["top_k"] = max(int(plain["top_k"]), 0)
    if plain.get("top_p") == 0:
        del plain["top_p"]
        plain["top_k"] = 1
    plain["eos_token_id"] = list(dict.fromkeys(_token_ids(values.get("eos_token_id"), path)))
    return plain


def _token_ids(value: Any, path: Path) -> Iterator[int]:
    """The ids in a number, or in lists of any depth. Negative ids mean "none"."""
    if isinstance(value, list):
        for part in value:
            yield from _token_ids(part, path)
    elif value is not None:
        if not _is_number(value) or value != int(value):
            raise _error(path, "eos_token_id", value, tr("a token id or a list of them"))
        if value >= 0:
            yield int(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _error(path: Path, field: str, value: Any, expected: str) -> CheckpointError:
    message = "{path}: {field} = {value} is not valid; it must be {expected}. Correct it or remove the field"
    return CheckpointError(tr(message, path=path, field=field, value=repr(value), expected=expected))
