"""GPTQ checkpoints → our network: folders of AutoGPTQ, gptqmodel, optimum and `qianwen quantize`.

    config.json      as for any model, with `quantization_config`: quant_method gptq, bits, group_size, …
    safetensors      <linear>.qweight, .qzeros, .scales, .g_idx for the linears of the layers; the rest in 16 bits

Both layouts of the published Int4 and Int8 models are supported: Qwen v1 (`c_attn`, `w1`, `w2`, with zero biases where
the network has none) and Qwen2. The caller chooses the type of the linears:

    gptq_model      unchanged codes, as the base of an adapter
    as_floats       ordinary linears, for training or export
    as_packed       the layout of the fast kernels, bit for bit if the codes are symmetric and in order

`write_scales` writes a copy of the folder with tuned scales. New codes are computed in `quantize/gptq_model.py`.
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
    """The format of the codes, from `quantization_config`."""

    bits: int
    group_size: int  # number of inputs in a group; -1: all
    zero_offset: int  # is added to the stored zeros


def is_gptq(folder: Path) -> bool:
    return (folder / CONFIG).exists() and bool(read_json(folder / CONFIG).get(QUANTIZATION))


def read_format(folder: Path) -> Format:
    """The format of a GPTQ folder. CheckpointError for an unsupported method, number of bits or option."""
    settings = read_json(folder / CONFIG).get(QUANTIZATION)
    settings = settings if isinstance(settings, dict) else {}
    method, bits, size = settings.get("quant_method", "gptq"), settings.get("bits"), settings.get("group_size", -1)
    version = settings.get("checkpoint_format") or "gptq"
    if method != "gptq" or bits not in BITS or version not in ("gptq", "gptq_v2") or settings.get("dynamic"):
        message = "{path}: quantisation {how} is not supported, only gptq with 4 or 8 bits; use the 16-bit folder"
        raise CheckpointError(tr(message, path=folder, how=settings))
    if type(size) is not int or not (size == -1 or size > 0):
        message = "{path}: group_size = {size} is not valid; it must be -1 or at least 1"
        raise CheckpointError(tr(message, path=folder, size=size))
    return Format(bits, size, 0 if version == "gptq_v2" else 1)


def gptq_model(folder: Path, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> Qwen:
    """The network of `folder` with unchanged codes in its quantised linears and all other weights in `dtype`.

    Raises CheckpointError for damaged or unexpected files, ConfigError for a network that is not supported.
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
    """Replace each quantised linear by an ordinary one, in place, one after another."""
    for name, coded in _coded(model):
        linear = nn.Linear(coded.in_features, coded.out_features, bias=False, device="meta")
        linear.weight = nn.Parameter(coded.dequantize().to(dtype), requires_grad=False)
        if coded.bias is not None:
            linear.bias = nn.Parameter(coded.bias.to(dtype), requires_grad=False)
        replace_module(model, name, linear)
    return model


def as_packed(model: Qwen) -> Qwen:
    """Pack all linears for the fast kernels, in place; the head, which has floats, gets eight bits."""
    for name, coded in _coded(model):
        replace_module(model, name, coded.fast())
    model.lm_head = PackedLinear.from_float(model.lm_head.weight, format="int8")  # type: ignore[assignment]
    return finish(model)


def write_scales(model: Qwen, source: Path, target: Path) -> None:
    """Copy all files of `source` into the existing folder `target`, with the scales of `model`, read from `source`."""
    where, codes = inventory(source), dict(_coded(model))
    rewritten = {file.path.name for file in where.values()} | {INDEX, MANIFEST}
    for file in source.iterdir():
        if file.is_file() and file.name not in rewritten:
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
    """Check that all tensors exist, have the right shapes, and are all used, before weights are read."""
    actual = {name: (file.path, file.entries[name].shape) for name, file in where.items()}
    needed = {name: stack for name, stack in expected.items() if name not in coded}
    if "lm_head.weight" not in needed:
        actual.pop("lm_head.weight", None)  # a copy of the tied weight
    for name, stack in coded.items():
        module, (outputs, inputs) = name.removesuffix("weight"), stack.shape
        if inputs * format.bits % 32 or outputs * format.bits % 32:
            message = "{path}: the codes of {name} with shape {shape} do not fill 32-bit words; use the 16-bit folder"
            raise CheckpointError(tr(message, path=folder, name=name, shape=list(stack.shape)))
        groups = -(-inputs // (format.group_size if format.group_size > 0 else inputs))
        for part, (_, shape) in shapes(outputs, inputs, groups, format.bits).items():
            needed[module + part] = Stack((), (), shape)
        if module + "bias" not in expected:  # AutoGPTQ writes a bias of zeros for linears without bias
            actual.pop(module + "bias", None)
    check_tensors(needed, actual, folder)


def _linears(
    name: str, stack: Stack, where: Mapping[str, SafetensorsFile], format: Format, folder: Path
) -> Iterator[tuple[str, GptqLinear]]:
    """Our linears in the quantised matrix `name` of the file, which is cut along its rows."""
    module = name.removesuffix("weight")
    tensors = {part: where[module + part].read(module + part) for part in TENSORS}
    groups = tensors["scales"].size(0)
    if not 0 <= int(tensors["g_idx"].min()) <= int(tensors["g_idx"].max()) < groups:
        message = "{path}: {name} has the index of a group that does not exist; fetch or export the model again"
        raise CheckpointError(tr(message, path=folder, name=module + "g_idx"))
    fused = from_gptq(tensors | {"scales": tensors["scales"].half()}, format.bits, zero_offset=format.zero_offset)
    extra = module + "bias"
    bias: Tensor | None = where[extra].read(extra) if extra in where else None
    biases: Any = [None] * len(stack.rows) if bias is None or not bias.any() else bias.split(stack.rows)
    parts = (part.split(stack.rows) for part in (fused.codes, fused.scales, fused.zeros))
    for ours, codes, scales, zeros, part_bias in zip(stack.names, *parts, biases, strict=True):
        weight = Groups(fused.bits, codes.clone(), scales.clone(), zeros.clone(), fused.group_of)
        yield ours.removesuffix(".weight"), GptqLinear(weight, part_bias)
