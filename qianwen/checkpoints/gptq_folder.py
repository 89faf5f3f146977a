"""GPTQ checkpoints → our network: folders of AutoGPTQ, gptqmodel, optimum and `qianwen quantize`.

    config.json      as for any model, with `quantization_config`: quant_method gptq, bits, group_size, …; folders of
                     older tools have this in `quantize_config.json`
    safetensors      <linear>.qweight, .qzeros, .scales, .g_idx for the linears of the layers; the rest in 16 bits

What follows from the rest may be missing: `.g_idx` of groups in order, `.qzeros` of symmetric codes. With symmetric
codes (`sym`) the zero is the middle code, whatever is stored: tools disagree on which number stands for it.

Both layouts of the published Int4 and Int8 models are supported: Qwen v1 (`c_attn`, `w1`, `w2`, with zero biases where
the network has none) and Qwen2. The caller chooses the type of the linears:

    gptq_model      unchanged codes, as the base of an adapter
    as_floats       ordinary linears, for training or export
    as_packed       the layout of the fast kernels, bit for bit if the codes are symmetric and in order

`write_scales` writes a copy of the folder with tuned scales. New codes are computed in `quantize/gptq_model.py`.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qianwen.checkpoints.hf_config import config_from_hf
from qianwen.checkpoints.hf_weights import CONFIG, INDEX, empty_model, fill, inventory, read_json, write_shards
from qianwen.checkpoints.safetensors_file import SafetensorsFile
from qianwen.checkpoints.tensor_names import Stack, check_tensors, renaming_of, stacks
from qianwen.model.linears.gptq_codes import GptqLinear
from qianwen.model.linears.gptq_layout import BITS, TENSORS, Groups, from_gptq, group_order, shapes
from qianwen.model.linears.packed import PackedLinear, finish
from qianwen.model.transformer import Qwen, replace_module
from qianwen.runtime.atomic import MANIFEST
from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.translation import tr

QUANTIZATION, OLD_SETTINGS = "quantization_config", "quantize_config.json"


class Format(NamedTuple):
    """The format of the codes, from `quantization_config`."""

    bits: int
    group_size: int  # number of inputs in a group; -1: all
    zero_offset: int  # is added to the stored zeros
    is_symmetric: bool | None = None  # None: the folder does not say
    is_ordered: bool = True  # whether inputs are in the order of their groups


def is_gptq(folder: Path) -> bool:
    return (folder / CONFIG).exists() and bool(_settings(folder))


def _settings(folder: Path) -> Any:
    settings = read_json(folder / CONFIG).get(QUANTIZATION)
    if not settings and (folder / OLD_SETTINGS).exists():
        settings = read_json(folder / OLD_SETTINGS)
    return settings


def read_format(folder: Path) -> Format:
    """The format of a GPTQ folder. CheckpointError for an unsupported method, number of bits or option."""
    settings = _settings(folder)
    settings = settings if isinstance(settings, dict) else {}
    method, bits, size = settings.get("quant_method", "gptq"), settings.get("bits"), settings.get("group_size", -1)
    version = settings.get("checkpoint_format") or "gptq"
    is_known = version in ("gptq", "gptq_v2") and settings.get("pack_dtype") in (None, "int32")
    if method != "gptq" or bits not in BITS or not is_known or settings.get("dynamic"):
        message = "{path}: quantisation {how} is not supported, only gptq with 4 or 8 bits; use the 16-bit folder"
        raise CheckpointError(tr(message, path=folder, how=settings))
    if type(size) is not int or not (size == -1 or size > 0):
        message = "{path}: group_size = {size} is not valid; it must be -1 or at least 1"
        raise CheckpointError(tr(message, path=folder, size=size))
    symmetric = settings.get("sym")
    is_symmetric = symmetric if isinstance(symmetric, bool) else None
    return Format(bits, size, 0 if version == "gptq_v2" else 1, is_symmetric, not settings.get("desc_act"))


def gptq_model(folder: Path, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> Qwen:
    """The network of `folder` with unchanged codes in its quantised linears and all other weights in `dtype`.

    Raises CheckpointError for damaged or unexpected files, ConfigError for a network that is not supported.
    """
    raw, format, where = read_json(folder / CONFIG), read_format(folder), inventory(folder)
    config = config_from_hf({name: value for name, value in raw.items() if name != QUANTIZATION})
    model = empty_model(config, len(where))
    expected = stacks(model, renaming_of(where))
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
                bias: Any = getattr(model.get_submodule(ours), "bias", None)
                linear.bias = bias
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
    if isinstance(model.lm_head, nn.Linear):
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
        for name, stack in stacks(empty, renaming_of(where)).items()
        if name.removesuffix("weight") + "qweight" in where
    }
    plans = {name: (file.entries[name].dtype, file.entries[name].shape) for name, file in where.items()}
    tensors = (
        torch.cat(scales[name]).T.to(dtype) if name in scales else where[name].read(name)
        for name, (dtype, _) in plans.items()
    )
    write_shards(target, plans, tensors)


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
            if module + part in where or not _follows(part, format, groups):
                needed[module + part] = Stack((), (), shape)
        if module + "bias" not in expected:  # AutoGPTQ writes a bias of zeros for linears without bias
            actual.pop(module + "bias", None)
    check_tensors(needed, actual, folder)


def _follows(part: str, format: Format, groups: int) -> bool:
    """Whether a tensor that is missing follows from the others."""
    if part == "g_idx":
        return format.is_ordered or groups == 1
    return part == "qzeros" and format.is_symmetric is True


def _linears(
    name: str, stack: Stack, where: Mapping[str, SafetensorsFile], format: Format, folder: Path
) -> Iterator[tuple[str, GptqLinear]]:
    """Our linears in the quantised matrix `name` of the file, which is cut along its rows."""
    module = name.removesuffix("weight")
    tensors = {part: where[module + part].read(module + part) for part in TENSORS if module + part in where}
    groups, inputs = tensors["scales"].size(0), stack.shape[1]
    if "g_idx" not in tensors:
        tensors["g_idx"] = group_order(inputs, format.group_size if format.group_size > 0 else inputs)
    if "qzeros" not in tensors:
        tensors["qzeros"] = torch.zeros(groups, stack.shape[0] * format.bits // 32, dtype=torch.int32)
    if not 0 <= int(tensors["g_idx"].min()) <= int(tensors["g_idx"].max()) < groups:
        message = "{path}: {name} has the index of a group that does not exist; fetch or export the model again"
        raise CheckpointError(tr(message, path=folder, name=module + "g_idx"))
    fused = from_gptq(tensors | {"scales": tensors["scales"].half()}, format.bits, zero_offset=format.zero_offset)
    if format.is_symmetric or (format.is_symmetric is None and _has_middle_zeros(fused, format)):
        fused = fused.centred()
    extra = module + "bias"
    bias: Tensor | None = where[extra].read(extra) if extra in where else None
    biases: Any = [None] * len(stack.rows) if bias is None or not bias.any() else bias.split(stack.rows)
    parts = (part.split(stack.rows) for part in (fused.codes, fused.scales, fused.zeros))
    for ours, codes, scales, zeros, part_bias in zip(stack.names, *parts, biases, strict=True):
        weight = Groups(fused.bits, codes.clone(), scales.clone(), zeros.clone(), fused.group_of)
        yield ours.removesuffix(".weight"), GptqLinear(weight, part_bias)


def _has_middle_zeros(weight: Groups, format: Format) -> bool:
    """Whether all stored zeros are the number that one of the two versions writes for the middle code."""
    middle = 1 << (format.bits - 1)
    stored = weight.zeros.int() - format.zero_offset
    return bool((stored == middle).all() or (stored == middle - 1).all())
