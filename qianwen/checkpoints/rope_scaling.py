"""Which texts a rope scaling of a model file applies to, and the longest text that the model then serves.

    yarn in Qwen2, Qwen3     added after training (the model cards add it for long texts), so texts up to the original
                             length are rotated as in training; it covers factor · original length
    yarn, linear, llama3     in other models they are part of the training: all texts, up to the length that the file
                             allows
    dynamic                  Hugging Face's: changes nothing up to max_position_embeddings; longer texts are not served
    dual chunk attention     Qwen2.5-1M: equal to plain attention up to one chunk; longer texts are not served

transformers, vLLM and llama.cpp apply YaRN of Qwen models to short texts too. A file can say whether the model was
trained with its scaling: `scaling_from` in `config.json` (ours), `rope.scaling.finetuned` in GGUF.
The keys of the formats are in `hf_rope.py` and `gguf/rope.py`.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from qianwen.model.config import QwenConfig
from qianwen.model.rope_state import RopeState
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

DUAL_CHUNK = "dual_chunk_attention_config"


def scaling_fields(
    scaling: RopeState, claimed_len: int, architecture: str, *, is_trained: bool | None = None
) -> dict[str, Any]:
    """The fields of a `QwenConfig` whose file has `scaling` and allows `claimed_len` tokens.

    `is_trained`: whether the model was trained with the scaling; None: the file does not say it.
    """
    fields: dict[str, Any] = {"rope_scaling": scaling, "max_position_embeddings": claimed_len}
    original = scaling.original_len
    if scaling.method == "none":
        return {}
    if scaling.method == "dynamic_ntk":
        return fields | {"scaling_from": original}
    is_added = scaling.method == "yarn" and architecture in ("qwen2", "qwen3") if is_trained is None else not is_trained
    covered = math.floor(scaling.factor * original)
    if is_added:
        fields |= {"scaling_from": original, "train_len": original}
    # Files often keep the length of before the scaling: 32,768 (Qwen2.5) or 40,960 (Qwen3) beside a factor of 4.
    if scaling.method == "yarn" and (claimed_len <= original or (is_added and is_trained is None)):
        fields["max_position_embeddings"] = covered
    return fields


def dual_chunk_len(hf: Mapping[str, Any]) -> int | None:
    """The longest text for which dual chunk attention is plain attention; None: the model does not have it.

    With c = chunk_size and l = local_size, a key at position j is rotated by j mod (c − l). A query at position i is
    rotated by i mod (c − l) for keys of its own chunk, and for keys of the chunk before by min(i mod (c − l) + c − l,
    c). So all distances i − j are the plain ones as long as i ≤ c, also in the second chunk: the local part of l tokens
    is there for this. The third chunk begins at 2 (c − l). From `original_max_position_embeddings` on, the queries are
    scaled too.
    """
    chunks = hf.get(DUAL_CHUNK)
    if chunks is None:
        return None
    names = ("chunk_size", "local_size", "original_max_position_embeddings")
    sizes = [chunks.get(name) for name in names] if isinstance(chunks, Mapping) else []
    chunk_size, local_size, original = sizes or (None, None, None)
    if type(chunk_size) is not int or type(local_size) is not int or not 0 <= local_size < chunk_size:
        raise ConfigError(tr("{field} = {value} is not a valid value", field=DUAL_CHUNK, value=repr(chunks)))
    plain = min(chunk_size, 2 * (chunk_size - local_size))
    return min(plain, original) if type(original) is int and original > 0 else plain


def length_notes(config: QwenConfig, name: str, hf: Mapping[str, Any]) -> Iterator[str]:
    """What a user should know about the lengths of the model `name`; `hf`: its config.json, empty for a GGUF file."""
    lengths = {"name": name, "original": config.scaling_from, "longest": config.max_position_embeddings}
    if config.rope_scaling.method == "dynamic_ntk":
        message = (
            "{name}: texts of more than {longest:,} tokens are refused. Up to there its dynamic rope scaling changes "
            "nothing; beyond, the rotation would change with every token. Choose --rope dynamic_ntk for longer texts"
        )
        yield tr(message, **lengths)
    elif config.scaling_from:
        message = (
            "{name}: texts of more than {original:,} tokens are read with {method} (factor {factor:g}, up to "
            "{longest:,} tokens), shorter ones as in training. transformers, vLLM and llama.cpp scale short texts too, "
            "so their answers differ"
        )
        yield tr(message, method=config.rope_scaling.method, factor=config.rope_scaling.factor, **lengths)
    if dual_chunk_len(hf) is not None:
        message = (
            "{name}: dual chunk attention is not supported. Texts up to {longest:,} tokens do not need it and are "
            "computed exactly; longer ones are refused"
        )
        yield tr(message, **lengths)
