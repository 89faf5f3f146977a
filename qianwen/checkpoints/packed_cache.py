"""A cache of packed models on disk: a model is converted once and then loads in a second.

    packed_model    model files → the packed network: from the cache, from the blocks of a GGUF file, or from floats

    folder/packed.json            the config, the format and shape of each linear, a CRC-32 of each tensor
    folder/packed.safetensors     `<linear>.packed` in the layout of the kernels, biases, norms and the embedding

`converted` manages such folders in the cache, one for each source and number of bits. The model is converted again if
the source has changed or a checksum is wrong. CRC-32 is enough to detect disk errors; SHA-256 would take longer than
all other steps of loading. MODEL is resolved in `load.py`; formats for other programs are in `export.py`.
"""

import dataclasses
import hashlib
import json
import math
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qianwen.checkpoints.gguf.file import GgufTensor
from qianwen.checkpoints.gguf.network import GgufModel
from qianwen.checkpoints.gguf.parts import part_paths
from qianwen.checkpoints.hf_weights import empty_model, load_weights, stored_dtype
from qianwen.checkpoints.safetensors_file import SafetensorsFile, write_safetensors
from qianwen.kernels.cpu import operators
from qianwen.kernels.gguf_packing import transcode
from qianwen.model.config import QwenConfig
from qianwen.model.linears.packed import (
    FORMAT_OF_BITS,
    HEAD_BITS,
    PackedLinear,
    Progress,
    finish,
    importance,
    linear_norms,
    pack_model,
)
from qianwen.model.transformer import Qwen, replace_module
from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.runtime.files import atomic_folder, cache_dir
from qianwen.runtime.log import console, progress
from qianwen.runtime.translation import tr

VERSION = 3  # increase it when packed bytes change their meaning, or a config.json is read in another way
HEADER, TENSORS = "packed.json", "packed.safetensors"


def packed_model(source: GgufModel | Path, bits: int) -> Qwen:
    """The network of a GGUF file or weight folder with all linears packed; from the cache if it was converted before.

    A GGUF file with this number of bits keeps its blocks. Raises ConfigError for an unsupported number of bits.
    """
    is_file = isinstance(source, GgufModel)
    if bits not in FORMAT_OF_BITS and not (is_file and bits == gguf_bits(source)):
        known = ", ".join(map(str, FORMAT_OF_BITS))
        raise ConfigError(tr("{bits} bits is not supported; choose one of {known}", bits=bits, known=known))
    path = source.path if is_file else source

    def with_progress(names: Iterator[str], total: int) -> Iterator[str]:
        return progress(names, total, tr("packing {name} to {bits} bits", name=path.name, bits=bits))

    def convert() -> Qwen:
        if isinstance(source, GgufModel):
            return pack_gguf(source, bits, with_progress)
        model = load_weights(source, dtype=stored_dtype(source))
        return pack_model(model, bits, head_bits=max(bits, HEAD_BITS), progress=with_progress)

    # For 16 bits only the layout changes, which is as fast as reading a cached copy.
    return convert() if bits == 16 else converted(path, bits, convert)


def gguf_bits(file: GgufModel) -> int | None:
    """Bits of most weights in the layers; None for F16 and F32, which have no packed format."""
    sizes: Counter[str] = Counter()
    for name, tensor in file.tensors.items():
        if ".layers." in name and len(tensor.shape) == 2:
            sizes[tensor.type] += math.prod(tensor.shape)
    (type, _), *_ = sizes.most_common(1)
    return None if type in ("F16", "F32") else 16 if type == "BF16" else int(re.sub(r"\D*(\d).*", r"\1", type))


def pack_gguf(file: GgufModel, bits: int | None = None, progress: Progress | None = None) -> Qwen:
    """The network of a GGUF file with its quantised matrices, bit for bit, or quantised again to `bits`."""
    model = empty_model(file.config, len(file.tensors))
    keeps_blocks = bits == gguf_bits(file)
    linears = [name for name, _ in linear_norms(model)]
    rest = [name for name, _ in model.named_parameters() if name.rpartition(".")[0] not in linears]
    model.load_state_dict({name: file.tensors[name].dequantize() for name in rest}, strict=False, assign=True)
    norms = dict(linear_norms(model))
    for name in progress(iter(linears), len(linears)) if progress else linears:
        source = "model.embed_tokens" if f"{name}.weight" not in file.tensors else name  # a tied head
        weight, bias = file.tensors[f"{source}.weight"], file.tensors.get(f"{name}.bias")
        bias = None if bias is None else bias.dequantize()
        if bits is None or keeps_blocks:
            packed = linear_from_gguf(weight, bias)
        else:
            format = FORMAT_OF_BITS[max(bits, HEAD_BITS) if name == "lm_head" else bits]
            packed = PackedLinear.from_float(
                weight.dequantize(), bias, format=format, importance=importance(norms[name])
            )
        replace_module(model, name, packed)
    return finish(model)


def linear_from_gguf(tensor: GgufTensor, bias: Tensor | None = None) -> PackedLinear:
    """A GGUF matrix, bit for bit. If its type has no packed layout, it becomes bf16 (floats) or int8 (other types)."""
    weight = transcode(tensor.type, tensor.raw)
    if weight is None:
        nearest = "bf16" if tensor.type in ("F32", "F16", "BF16") else "int8"
        return PackedLinear.from_float(tensor.dequantize(), bias, format=nearest)
    return PackedLinear.from_quantized(weight, bias)


def converted(source: Path, bits: int | None, convert: Callable[[], Qwen]) -> Qwen:
    """The packed model of `source` (a file or folder) from the cache; else the result of `convert`, which is cached."""
    folder = cache_dir() / "packed" / _key(source, bits)
    if (folder / HEADER).exists():
        try:
            return load_packed(folder)
        except CheckpointError as error:
            console.print(tr("converting {source} again: {error}", source=source.name, error=error), style="yellow")
    model = convert()
    try:
        save_packed(model, folder)
    except OSError as error:  # a full disk or a read-only cache: this run works, the next one packs again
        console.print(tr("the packed model could not be cached: {error}", error=error), style="yellow")
    return model


def _key(source: Path, bits: int | None) -> str:
    """A folder name that depends on the files of the source, the number of bits and the version of the layout."""
    identity = json.dumps([str(source.resolve()), file_stats(source), bits, VERSION])
    return f"{source.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def file_stats(source: Path) -> list[tuple[str, int, int]]:
    """Name, size and modification time of the files of a folder, or of all parts of a GGUF file, to notice changes."""
    files = sorted(source.iterdir()) if source.is_dir() else part_paths(source)
    return [(file.name, (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files if file.is_file()]


def save_packed(model: Qwen, folder: Path) -> None:
    """Write a model whose linears are all packed."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    linears = {
        n: [m.format, m.out_features, m.in_features] for n, m in model.named_modules() if isinstance(m, PackedLinear)
    }
    header: dict[str, Any] = {
        "config": dataclasses.asdict(model.config),
        "linears": linears,
        "crc32": {name: _crc(tensor) for name, tensor in tensors.items()},
    }
    with atomic_folder(folder) as temporary:
        plans = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
        write_safetensors(temporary / TENSORS, plans, tensors.values())
        (temporary / HEADER).write_text(json.dumps(header), encoding="utf-8")


def load_packed(folder: Path) -> Qwen:
    """Read a folder of `save_packed`. Raises CheckpointError if it is damaged."""
    file = SafetensorsFile(folder / TENSORS)
    try:
        header = json.loads((folder / HEADER).read_text(encoding="utf-8"))
        config, linears, sums = QwenConfig(**header["config"]), header["linears"], header["crc32"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(tr("{path}: damaged packed model: {error}", path=folder, error=error)) from error
    if sums.keys() != file.entries.keys():
        raise CheckpointError(tr("{path}: tensors are missing", path=folder))

    def read(name: str) -> tuple[str, Tensor]:
        tensor = _read(file, name)
        if _crc(tensor) != sums[name]:
            raise CheckpointError(tr("{path}: {name} changed after it was written", path=folder, name=name))
        return name, tensor

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        tensors = dict(pool.map(read, file.entries))
    model = empty_model(config, len(tensors))
    for name, (format, outputs, inputs) in linears.items():
        packed, bias = tensors.pop(f"{name}.packed"), tensors.pop(f"{name}.bias", None)
        replace_module(model, name, PackedLinear(format, packed, outputs, inputs, bias))
    finish(model).load_state_dict(tensors, strict=False, assign=True)
    return model.requires_grad_(False)


def _read(file: SafetensorsFile, name: str) -> Tensor:
    """A tensor in memory with huge pages."""
    entry = file.entries[name]
    memory = operators.huge_tensor(entry.end - entry.begin)
    with file.path.open("rb") as raw:
        raw.seek(entry.begin)
        raw.readinto(memory.numpy().data)
    return memory.view(entry.dtype).view(entry.shape)


def _crc(tensor: Tensor) -> int:
    return zlib.crc32(tensor.view(-1).view(torch.uint8).numpy().data)
