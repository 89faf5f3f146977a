"""Packed models on disk, so that a model is converted once and starts in a second from then on.

    packed_model    MODEL's files → its network, packed: from the cache, from the file's own blocks, or from floats

    folder/packed.json            the config, each linear's format and shape, a CRC-32 of every tensor
    folder/packed.safetensors     `<linear>.packed` as the kernels read it, biases, norms and the embedding

`converted` keeps such folders in the cache, one for each source and number of bits; a source that changed, and a folder
in which a byte did, are converted again. SHA-256 would take longer than everything else at start-up; against disks that
forget, a checksum is enough.
Not here: which file MODEL means (`load.py`), and formats for other programs (`export.py`).
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

VERSION = 1  # of the layout: raise it when packed bytes change their meaning
HEADER, TENSORS = "packed.json", "packed.safetensors"


def packed_model(source: GgufModel | Path, bits: int) -> Qwen:
    """The network of a GGUF file or weight folder with every linear packed; from the cache if it was converted before.

    A GGUF file that has `bits` bits keeps its blocks. Raises ConfigError for a number no format has.
    """
    is_file = isinstance(source, GgufModel)
    if bits not in FORMAT_OF_BITS and not (is_file and bits == gguf_bits(source)):
        known = ", ".join(map(str, FORMAT_OF_BITS))
        raise ConfigError(tr("{bits} bits is not supported; choose one of {known}", bits=bits, known=known))
    path = source.path if is_file else source

    def shown(names: Iterator[str], total: int) -> Iterator[str]:
        return progress(names, total, tr("packing {name} to {bits} bits", name=path.name, bits=bits))

    def convert() -> Qwen:
        if isinstance(source, GgufModel):
            return pack_gguf(source, bits, shown)
        model = load_weights(source, dtype=stored_dtype(source))
        return pack_model(model, bits, head_bits=max(bits, HEAD_BITS), progress=shown)

    # Sixteen bits are only laid out anew: as fast as reading a copy.
    return convert() if bits == 16 else converted(path, bits, convert)


def gguf_bits(file: GgufModel) -> int | None:
    """How many bits most weights of the layers have; None for F16 and F32, which no packed format holds."""
    sizes: Counter[str] = Counter()
    for name, tensor in file.tensors.items():
        if ".layers." in name and len(tensor.shape) == 2:
            sizes[tensor.type] += math.prod(tensor.shape)
    (type, _), *_ = sizes.most_common(1)
    return None if type in ("F16", "F32") else 16 if type == "BF16" else int(re.sub(r"\D*(\d).*", r"\1", type))


def pack_gguf(file: GgufModel, bits: int | None = None, progress: Progress | None = None) -> Qwen:
    """A GGUF file's network with its quantised matrices as they are, to the last bit, or quantised anew to `bits`."""
    model = empty_model(file.config, len(file.tensors))
    keeps = bits == gguf_bits(file)
    linears = [name for name, _ in linear_norms(model)]
    rest = [name for name, _ in model.named_parameters() if name.rpartition(".")[0] not in linears]
    model.load_state_dict({name: file.tensors[name].dequantize() for name in rest}, strict=False, assign=True)
    norms = dict(linear_norms(model))
    for name in progress(iter(linears), len(linears)) if progress else linears:
        source = "model.embed_tokens" if f"{name}.weight" not in file.tensors else name  # a tied head
        weight, bias = file.tensors[f"{source}.weight"], file.tensors.get(f"{name}.bias")
        bias = None if bias is None else bias.dequantize()
        if bits is None or keeps:
            packed = linear_from_gguf(weight, bias)
        else:
            format = FORMAT_OF_BITS[max(bits, HEAD_BITS) if name == "lm_head" else bits]
            packed = PackedLinear.from_float(
                weight.dequantize(), bias, format=format, importance=importance(norms[name])
            )
        replace_module(model, name, packed)
    return finish(model)


def linear_from_gguf(tensor: GgufTensor, bias: Tensor | None = None) -> PackedLinear:
    """A GGUF matrix to the last bit. A type without a packed layout becomes bf16 if it has floats, else int8."""
    weight = transcode(tensor.type, tensor.raw)
    if weight is None:
        nearest = "bf16" if tensor.type in ("F32", "F16", "BF16") else "int8"
        return PackedLinear.from_float(tensor.dequantize(), bias, format=nearest)
    return PackedLinear.from_quantized(weight, bias)


def converted(source: Path, bits: int | None, convert: Callable[[], Qwen]) -> Qwen:
    """The packed model of `source` (a file or folder): from the cache, or made by `convert` and kept there."""
    folder = cache_dir() / "packed" / _key(source, bits)
    if (folder / HEADER).exists():
        try:
            return load_packed(folder)
        except CheckpointError as error:
            console.print(tr("converting {source} again: {error}", source=source.name, error=error), style="yellow")
    model = convert()
    try:
        save_packed(model, folder)
    except OSError as error:  # a full disk or a cache that is read only: this run works, the next one packs again
        console.print(tr("not kept for the next start: {error}", error=error), style="yellow")
    return model


def _key(source: Path, bits: int | None) -> str:
    """A name that changes with the source's files, the bits and the layout."""
    identity = json.dumps([str(source.resolve()), file_stats(source), bits, VERSION])
    return f"{source.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def file_stats(source: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change of a folder's files, or of all parts of a GGUF file, which tell it from others."""
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
    """Read what `save_packed` wrote. Raises CheckpointError for what is damaged."""
    file = SafetensorsFile(folder / TENSORS)
    try:
        header = json.loads((folder / HEADER).read_text(encoding="utf-8"))
        config, linears, sums = QwenConfig(**header["config"]), header["linears"], header["crc32"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(tr("{path}: not a sound packed model: {error}", path=folder, error=error)) from error
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
    """A tensor in memory of large pages."""
    entry = file.entries[name]
    memory = operators.huge_tensor(entry.end - entry.begin)
    with file.path.open("rb") as raw:
        raw.seek(entry.begin)
        raw.readinto(memory.numpy().data)
    return memory.view(entry.dtype).view(entry.shape)


def _crc(tensor: Tensor) -> int:
    return zlib.crc32(tensor.view(-1).view(torch.uint8).numpy().data)
