"""The names of the tensors in a file ↔ the parameters of our network.

Our names are those of Hugging Face's Qwen2, so most files need no renaming. Others have a table of renamings, in which
several of our parameters may be stacked along the rows of one file tensor: `c_attn` of Qwen v1 is q, k and v. Embedding
models and wrappers only have another prefix (`layers.0.…`, `language_model.model.layers.0.…`). The same table is used
to read and to write; that of GGUF files is in `gguf/network.py`.

    rename each of our names → group equal results → compare with the tensors in the files → copy, one tensor at a time
"""

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.translation import tr

# Buffers that early releases saved with the weights; they are ignored.
LEFTOVERS = re.compile(r"(^|\.)(rotary_emb\.inv_freq|attn\.masked_bias)$")

V1_NAMES = (
    ("model.embed_tokens.", "transformer.wte."),
    ("model.layers.", "transformer.h."),
    ("model.norm.", "transformer.ln_f."),
    (".input_layernorm.", ".ln_1."),
    (".post_attention_layernorm.", ".ln_2."),
    (".self_attn.q_proj.", ".attn.c_attn."),
    (".self_attn.k_proj.", ".attn.c_attn."),
    (".self_attn.v_proj.", ".attn.c_attn."),
    (".self_attn.o_proj.", ".attn.c_proj."),
    (".mlp.up_proj.", ".mlp.w1."),
    (".mlp.gate_proj.", ".mlp.w2."),
    (".mlp.down_proj.", ".mlp.c_proj."),
)


class Stack(NamedTuple):
    """One tensor of a file: one or more of our parameters, stacked along the rows."""

    names: tuple[str, ...]
    rows: tuple[int, ...]  # of each parameter
    shape: tuple[int, ...]


def stacks(model: Qwen, renaming: Iterable[tuple[str, str]] = ()) -> dict[str, Stack]:
    """Name of each file tensor → the parameters of `model` in it, for files named by `renaming`."""
    result: dict[str, Stack] = {}
    for name, parameter in model.named_parameters():
        file_name = name
        for ours, theirs in renaming:
            file_name = file_name.replace(ours, theirs)
        rows, *rest = parameter.shape
        names, counts, _ = result.get(file_name, Stack((), (), ()))
        result[file_name] = Stack((*names, name), (*counts, rows), (sum(counts) + rows, *rest))
    return result


EMBEDDING = "embed_tokens.weight"


def renaming_of(names: Collection[str]) -> Iterable[tuple[str, str]]:
    """The table of renamings for a file with tensors of these `names`: that of Qwen v1, or another prefix."""
    if "transformer.wte.weight" in names:
        return V1_NAMES
    prefix = next((name.removesuffix(EMBEDDING) for name in names if name.endswith(EMBEDDING)), "model.")
    if prefix == "model.":
        return ()
    return (("model.", prefix), ("lm_head.", f"{prefix.removesuffix('model.')}lm_head."))


def without_head(config: QwenConfig, names: Collection[str]) -> bool:
    """Whether files with tensors of these `names` are of an embedding model, which was saved without its head."""
    return not config.tie_word_embeddings and EMBEDDING in names and "lm_head.weight" not in names


def check_tensors(
    expected: Mapping[str, Stack], actual: Mapping[str, tuple[Path, tuple[int, ...]]], source: Path
) -> None:
    """Compare `actual` (file and shape by name) with `expected`. CheckpointError for the first tensor that differs."""
    for name, stack in expected.items():
        if name not in actual:
            message = "{path}: tensor {name} of shape {shape} is missing; fetch or export the model again"
            raise CheckpointError(tr(message, path=source, name=name, shape=list(stack.shape)))
        file, shape = actual[name]
        if shape != stack.shape:
            message = "{path}: tensor {name} has shape {found}, but its config needs {expected}; is this its config?"
            raise CheckpointError(tr(message, path=file, name=name, found=list(shape), expected=list(stack.shape)))
    for name, (file, shape) in actual.items():
        if name not in expected and not LEFTOVERS.search(name):
            message = "{path}: the network has no tensor {name} of shape {shape}; is this its config?"
            raise CheckpointError(tr(message, path=file, name=name, shape=list(shape)))
