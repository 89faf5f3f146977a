"""Weight folders of Qwen v1, Qwen1.5 / 2 / 2.5, Qwen3 and Llama ↔ our network.

Our parameter names are Hugging Face's for Qwen2, so most folders need no map. Others are a renaming in which several
of our parameters may share one file tensor, stacked along its rows: Qwen v1's `c_attn` is q, k and v. The same renaming
reads and writes, and `gguf/network.py` uses it with its own table.

    rename each of our names → group equal results → compare with what the files hold → copy, one tensor at a time

A model is built without memory (the meta device) and receives each tensor in its final type and place, so loading needs
the weights once and one tensor more. What is missing, left over or of another shape is reported by file and name before
anything is read. Pickles (`.bin`, `.pt`) run code when opened, so they are refused.
Not here: the tokenizer and generation files beside the weights (`checkpoints/export.py`), and quantised checkpoints
(`checkpoints/gptq_folder.py`).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from qianwen.checkpoints.hf_config import config_from_hf, config_to_hf
from qianwen.checkpoints.safetensors_file import SafetensorsFile, write_safetensors
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen, empty_network
from qianwen.runtime.atomic import MANIFEST
from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.files import atomic_file, atomic_folder, verify_folder
from qianwen.runtime.log import console, progress
from qianwen.runtime.translation import tr

Layout = Literal["qwen2", "qwen"]

CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
SHARD_BYTES = 4 << 30
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

# Buffers that early releases saved among the weights.
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


Plan = tuple[torch.dtype, tuple[int, ...]]  # the type and shape a tensor will have in a file


class Stack(NamedTuple):
    """What one tensor of a file holds: some of our parameters, one below the other."""

    names: tuple[str, ...]
    rows: tuple[int, ...]  # of each parameter
    shape: tuple[int, ...]


def stacks(model: Qwen, renaming: Iterable[tuple[str, str]] = ()) -> dict[str, Stack]:
    """File tensor → the parameters of `model` it holds, when its files follow `renaming`."""
    found: dict[str, Stack] = {}
    for name, parameter in model.named_parameters():
        file_name = name
        for ours, theirs in renaming:
            file_name = file_name.replace(ours, theirs)
        rows, *rest = parameter.shape
        names, counts, _ = found.get(file_name, Stack((), (), ()))
        found[file_name] = Stack((*names, name), (*counts, rows), (sum(counts) + rows, *rest))
    return found


def check_tensors(
    expected: Mapping[str, Stack], found: Mapping[str, tuple[Path, tuple[int, ...]]], source: Path
) -> None:
    """Raise CheckpointError for the first missing, misshapen or unexpected tensor of `found` (name → file, shape)."""
    for name, stack in expected.items():
        if name not in found:
            message = "{path}: tensor {name} of shape {shape} is missing; fetch or export the model again"
            raise CheckpointError(tr(message, path=source, name=name, shape=list(stack.shape)))
        file, shape = found[name]
        if shape != stack.shape:
            message = "{path}: tensor {name} has shape {found}, its config says {expected}; do they belong together?"
            raise CheckpointError(tr(message, path=file, name=name, found=list(shape), expected=list(stack.shape)))
    for name, (file, shape) in found.items():
        if name not in expected and not LEFTOVERS.search(name):
            message = "{path}: tensor {name} of shape {shape} has no place in this network; is this its config?"
            raise CheckpointError(tr(message, path=file, name=name, shape=list(shape)))


def empty_model(config: QwenConfig, num_tensors: int) -> Qwen:
    """The network with shapes and no memory: `fill` gives it its weights, which lie in `num_tensors` file tensors.

    A config may claim any number of layers; modules are built for no more than the files could fill.
    """
    if config.num_hidden_layers > num_tensors:
        message = "num_hidden_layers = {layers} cannot be: the files hold {count} tensors"
        raise CheckpointError(tr(message, layers=config.num_hidden_layers, count=num_tensors))
    try:
        return empty_network(config)
    except RuntimeError as error:  # sizes whose product overflows
        raise CheckpointError(tr("no network has this shape: {error}", error=error)) from error


def fill(model: Qwen, parameters: Iterable[tuple[str, Tensor]]) -> Qwen:
    """Give an empty model its weights, which arrive by name in their final type and place. Returns it, in eval mode."""
    count = sum(1 for _ in model.parameters())
    arriving = progress(parameters, count, tr("loading weights")) if console.is_terminal else parameters
    model.load_state_dict(dict(arriving), strict=False, assign=True)
    model.tie_weights()
    return model.eval()


# ---- folders ----------------------------------------------------------------------------------------------------


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file beside the weights; CheckpointError where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(tr("{path}: cannot be read ({error})", path=path, error=error.strerror)) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(tr("{path}: no JSON ({error})", path=path, error=error)) from error
    if not isinstance(found, dict):
        raise CheckpointError(tr("{path}: no JSON object", path=path))
    return found


def load_weights(folder: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Qwen:
    """The model in a folder of `config.json` and safetensors, hashed first where it has a manifest.

    Raises CheckpointError for anything wrong with the files, ConfigError for a network we do not have.
    """
    return fill(*read_weights(Path(folder), dtype, device))


def read_weights(
    folder: Path, dtype: torch.dtype, device: torch.device | str
) -> tuple[Qwen, Iterator[tuple[str, Tensor]]]:
    """The empty network of a folder and its parameters, which are read as they are asked for."""
    raw = read_json(folder / CONFIG)
    if quantization := raw.get("quantization_config"):
        message = "{path}: quantised weights ({how}) are not read; take the 16-bit folder or a GGUF file"
        raise CheckpointError(tr(message, path=folder, how=quantization))
    config, where = config_from_hf(raw), inventory(folder)
    model = empty_model(config, len(where))
    found = {name: (file.path, file.entries[name].shape) for name, file in where.items()}
    if config.tie_word_embeddings:
        found.pop("lm_head.weight", None)  # some files hold the copy
    expected = stacks(model, V1_NAMES if "transformer.wte.weight" in found else ())
    check_tensors(expected, found, folder)
    return model, _parts(where, expected, dtype, device)


def _parts(
    where: Mapping[str, SafetensorsFile], expected: Mapping[str, Stack], dtype: torch.dtype, device: torch.device | str
) -> Iterator[tuple[str, Tensor]]:
    """Read one file tensor after the other and cut it into our parameters."""
    for file_name, stack in expected.items():
        parts = where[file_name].read(file_name).split(stack.rows)
        for name, part in zip(stack.names, parts, strict=True):
            # Parts are copied apart, lest one of them keep the memory of all.
            yield name, part.to(device, dtype, copy=len(parts) > 1)


def stored_dtype(folder: Path) -> torch.dtype:
    """The number format of the largest tensor in a folder's first file."""
    file = SafetensorsFile(_weight_files(folder)[0])
    return max(file.entries.values(), key=lambda entry: entry.end - entry.begin).dtype


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, as its index lists them."""
    if (folder / INDEX).exists():
        listed = read_json(folder / INDEX).get("weight_map")
        if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
            raise CheckpointError(tr("{path}: no weight_map of names", path=folder / INDEX))
        names = sorted(set(listed.values()))
    else:
        names = [SINGLE]
    for name in names:
        if Path(name).name != name:
            raise CheckpointError(tr("{path}: {name} is no plain file name", path=folder / INDEX, name=name))
        if not (folder / name).is_file():
            raise _missing_file(folder, name)
    return [folder / name for name in names]


def _missing_file(folder: Path, name: str) -> CheckpointError:
    if pickles := sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES):
        return pickle_error(folder / pickles[0])
    return CheckpointError(tr("{path}: {name} is missing; fetch the rest of the model", path=folder, name=name))


def pickle_error(path: Path) -> CheckpointError:
    """Why a pickle is not opened, and what to do."""
    message = (
        "{path} is a pickle: opening it can run any code. Take the safetensors revision of the model, or convert it "
        "where nothing is at stake: torch.load(..., weights_only=True), then safetensors.torch.save_file"
    )
    return CheckpointError(tr(message, path=path))


def inventory(folder: Path) -> dict[str, SafetensorsFile]:
    """Tensor name → the file of `folder` that holds it; the folder is hashed first where it has a manifest."""
    where: dict[str, SafetensorsFile] = {}
    files = _weight_files(folder)
    if (folder / MANIFEST).exists():
        verify_folder(folder)
    for file in map(SafetensorsFile, files):
        for name in file.entries:
            if name in where:
                message = "{path}: tensor {name} is in {first} and in {second}"
                first, second = where[name].path.name, file.path.name
                raise CheckpointError(tr(message, path=folder, name=name, first=first, second=second))
            where[name] = file
    return where


# ---- writing ----------------------------------------------------------------------------------------------------


def save_weights(model: Qwen, folder: str | Path, layout: Layout = "qwen2", **options: Any) -> None:
    """`write_weights` into a new folder that appears whole, replacing `folder`."""
    with atomic_folder(folder) as temporary:
        write_weights(model, temporary, layout, **options)


def write_weights(
    model: Qwen,
    folder: Path,
    layout: Layout = "qwen2",
    *,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write `config.json` and safetensors into an existing folder, in `dtype` or the model's own.

    `qwen2` is Hugging Face's layout, under the model's own class (Qwen2, Qwen3 or Llama); `qwen` is Qwen v1's.
    """
    dtype = dtype or next(model.parameters()).dtype
    raw = config_to_hf(model.config, "qwen" if layout == "qwen" else "") | {
        "torch_dtype": str(dtype).removeprefix("torch.")
    }
    wanted = stacks(model, V1_NAMES if layout == "qwen" else ())
    plans = {name: (dtype, stack.shape) for name, stack in wanted.items()}
    write_shards(folder, plans, stacked(wanted.values(), dict(model.named_parameters())), shard_bytes=shard_bytes)
    _write_json(folder / CONFIG, raw)


def write_shards(
    folder: Path, plans: Mapping[str, Plan], tensors: Iterable[Tensor], *, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write `tensors`, which come in the order of `plans`, to one file or to several with an index."""
    arriving, shards = iter(tensors), _shards(plans, shard_bytes)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = SINGLE if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_safetensors(folder / file, shard, islice(arriving, len(shard)))
        weight_map |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        total = sum(map(_plan_bytes, plans.values()))
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def stacked(wanted: Iterable[Stack], parameters: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """The file tensors that hold `wanted`, one at a time."""
    for stack in wanted:
        parts = [parameters[name].detach() for name in stack.names]
        yield parts[0] if len(parts) == 1 else torch.cat(parts)


def _shards(plans: Mapping[str, Plan], limit: int) -> list[dict[str, Plan]]:
    """Cut into runs of at most `limit` bytes; a tensor is never cut."""
    shards: list[dict[str, Plan]] = [{}]
    room = limit
    for name, plan in plans.items():
        size = _plan_bytes(plan)
        if size > room and shards[-1]:
            shards.append({})
            room = limit
        shards[-1][name] = plan
        room -= size
    return shards


def _plan_bytes(plan: Plan) -> int:
    dtype, shape = plan
    return torch.Size(shape).numel() * dtype.itemsize


def _write_json(path: Path, contents: Mapping[str, Any]) -> None:
    with atomic_file(path, "w") as file:
        json.dump(contents, file, indent=2, ensure_ascii=False)
