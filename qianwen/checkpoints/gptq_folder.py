"""GPTQ checkpoints → our network: folders that AutoGPTQ, gptqmodel, optimum and `qianwen quantize` write.

    config.json      as of any model, and `quantization_config`: quant_method gptq, bits, group_size, …
    safetensors      <linear>.qweight, .qzeros, .scales, .g_idx for the linears of the layers; the rest in 16 bits

Both layouts of the published Int4 and Int8 models are read: Qwen v1's (`c_attn`, `w1`, `w2`, with biases of zero where
the network has none) and Qwen2's. What is made of them is the caller's choice:

    gptq_model      codes as they are, to train adapters over
    as_floats       ordinary linears, to go on training or to export
    as_packed       the fast kernels' layout, to the last bit where the codes are symmetric and in order

`write_scales` writes the folder once more with other scales, which were tuned. Not here: new codes (`gptq_model.py`).
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qianwen.checkpoints.hf_config import config_from_hf
from qianwen.checkpoints.hf_weights import (
    CONFIG,
    INDEX,
    V1_NAMES,
    Stack,
    check_tensors,
    empty_model,
    fill,
    inventory,
    read_json,
    stacks,
    write_shards,
)
from qianwen.checkpoints.safetensors_file import SafetensorsFile
from qianwen.model.linears.gptq_codes import GptqLinear
from qianwen.model.linears.gptq_layout import BITS, TENSORS, Groups, from_gptq, shapes
from qianwen.model.linears.packed import PackedLinear, finish
from qianwen.model.transformer import Qwen, replace_module
from qianwen.runtime.atomic import MANIFEST
from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.translation import tr

QUANTIZATION = "quantization_config"


class Format(NamedTuple):
    """What `quantization_config` says of the codes."""

    bits: int
    group_size: int  # inputs; -1: all
    zero_offset: int  # what stored zeros lack


def is_gptq(folder: Path) -> bool:
    return (folder / CONFIG).exists() and bool(read_json(folder / CONFIG).get(QUANTIZATION))


def read_format(folder: Path) -> Format:
    """Raises CheckpointError for a method, a number of bits or an option that is not read."""
    said = read_json(folder / CONFIG).get(QUANTIZATION)
    said = said if isinstance(said, dict) else {}
    method, bits, size = said.get("quant_method", "gptq"), said.get("bits"), said.get("group_size", -1)
    version = said.get("checkpoint_format") or "gptq"
    if method != "gptq" or bits not in BITS or version not in ("gptq", "gptq_v2") or said.get("dynamic"):
        message = "{path}: weights quantised as {how} are not read: only gptq of 4 or 8 bits is; take the 16-bit folder"
        raise CheckpointError(tr(message, path=folder, how=said))
    if type(size) is not int or not (size == -1 or size > 0):
        raise CheckpointError(tr("{path}: group_size = {size} is no size of a group", path=folder, size=size))
    return Format(bits, size, 0 if version == "gptq_v2" else 1)


def gptq_model(folder: Path, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> Qwen:
    """The network of `folder` with its quantised linears as they are and all else in `dtype`.

    Raises CheckpointError for anything wrong with the files, ConfigError for a network we do not have.
    """
    raw, format, where = read_json(folder / CONFIG), read_format(folder), inventory(folder)
    config = config_from_hf({name: value for name, value in raw.items() if name != QUANTIZATION})
    model = empty_model(config, len(where))
    expected = stacks(model, _renaming(where))
    coded = {name: stack for name, stack in expected.items() if name.removesuffix("weight") + "qweight" in where}
    _check(coded, expected, where, format, folder)

    def floats() -> Iterator[tuple[str, Tensor]]:
        for name, stack in expected.items():
            if name not in coded:
                parts = where[name].read(name).split(stack.rows)
                yield from (
                    (ours, part.to(device, dtype, copy=True)) for ours, part in zip(stack.names, parts, strict=True)
                )

    fill(model, floats())
    for name, stack in coded.items():
        for ours, linear in _linears(name, stack, where, format, folder):
            if linear.bias is None:
                linear.bias = getattr(model.get_submodule(ours), "bias", None)
            replace_module(model, ours, linear.to(device))
    return model.requires_grad_(False).eval()


def as_floats(model: Qwen, dtype: torch.dtype) -> Qwen:
    """Unpack every quantised linear into an ordinary one, in place, one after another."""
    for name, coded in _coded(model):
        linear = nn.Linear(coded.in_features, coded.out_features, bias=False, device="meta")
        linear.weight = nn.Parameter(coded.dequantize().to(dtype), requires_grad=False)
        if coded.bias is not None:
            linear.bias = nn.Parameter(coded.bias.to(dtype), requires_grad=False)
        replace_module(model, name, linear)
    return model


def as_packed(model: Qwen) -> Qwen:
    """Pack every linear for the fast kernels, in place; the head, which has floats, to eight bits."""
    for name, coded in _coded(model):
        replace_module(model, name, coded.fast())
    model.lm_head = PackedLinear.from_float(model.lm_head.weight, format="int8")  # type: ignore[assignment]
    return finish(model)


def write_scales(model: Qwen, source: Path, target: Path) -> None:
    """All files of `source` into the existing folder `target`, with the scales of `model`, which was read from it."""
    where, codes = inventory(source), dict(_coded(model))
    kept = {file.path.name for file in where.values()} | {INDEX, MANIFEST}
    for file in source.iterdir():
        if file.is_file() and file.name not in kept:
            shutil.copy(file, target)
    empty = empty_model(model.config, len(where))
    scales = {
        name.removesuffix("weight") + "scales": [codes[part.removesuffix(".weight")].scales for part in stack.names]
        for name, stack in stacks(empty, _renaming(where)).items()
        if name.removesuffix("weight") + "qweight" in where
    }
    plans = {name: (file.entries[name].dtype, file.entries[name].shape) for name, file in where.items()}
    tensors = (
        torch.cat(scales[name]).T.to(dtype) if name in scales else where[name].read(name)
        for name, (dtype, _) in plans.items()
    )
    write_shards(target, plans, tensors)


def _renaming(where: Mapping[str, SafetensorsFile]) -> Iterable[tuple[str, str]]:
    return V1_NAMES if "transformer.wte.weight" in where else ()


def _coded(model: Qwen) -> list[tuple[str, GptqLinear]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, GptqLinear)]


def _check(
    coded: Mapping[str, Stack],
    expected: Mapping[str, Stack],
    where: Mapping[str, SafetensorsFile],
    format: Format,
    folder: Path,
) -> None:
    """Every tensor is there, of its shape, and of use, before anything is read."""
    found = {name: (file.path, file.entries[name].shape) for name, file in where.items()}
    wanted = {name: stack for name, stack in expected.items() if name not in coded}
    if "lm_head.weight" not in wanted:
        found.pop("lm_head.weight", None)  # the copy of a tied head
    for name, stack in coded.items():
        module, (outputs, inputs) = name.removesuffix("weight"), stack.shape
        if inputs * format.bits % 32 or outputs * format.bits % 32:
            message = "{path}: {name} of shape {shape} does not fill words of 32 bits"
            raise CheckpointError(tr(message, path=folder, name=name, shape=list(stack.shape)))
        groups = -(-inputs // (format.group_size if format.group_size > 0 else inputs))
        for part, (_, shape) in shapes(outputs, inputs, groups, format.bits).items():
            wanted[module + part] = Stack((), (), shape)
        if module + "bias" not in expected:  # AutoGPTQ gives one, of zeros, to linears that have none
            found.pop(module + "bias", None)
    check_tensors(wanted, found, folder)


def _linears(
    name: str, stack: Stack, where: Mapping[str, SafetensorsFile], format: Format, folder: Path
) -> Iterator[tuple[str, GptqLinear]]:
    """Our linears in the quantised matrix `name` of the file, cut along its rows."""
    module = name.removesuffix("weight")
    tensors = {part: where[module + part].read(module + part) for part in TENSORS}
    groups = tensors["scales"].size(0)
    if not 0 <= int(tensors["g_idx"].min()) <= int(tensors["g_idx"].max()) < groups:
        message = "{path}: {name} points at a group that is not there; fetch or export the model again"
        raise CheckpointError(tr(message, path=folder, name=module + "g_idx"))
    whole = from_gptq(tensors | {"scales": tensors["scales"].half()}, format.bits, zero_offset=format.zero_offset)
    extra = module + "bias"
    bias: Tensor | None = where[extra].read(extra) if extra in where else None
    biases: Any = [None] * len(stack.rows) if bias is None or not bias.any() else bias.split(stack.rows)
    parts = (part.split(stack.rows) for part in (whole.codes, whole.scales, whole.zeros))
    for ours, codes, scales, zeros, own in zip(stack.names, *parts, biases, strict=True):
        weight = Groups(whole.bits, codes.clone(), scales.clone(), zeros.clone(), whole.group_of)
        yield ours.removesuffix(".weight"), GptqLinear(weight, own)
