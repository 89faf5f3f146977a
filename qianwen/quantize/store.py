"""Packed models on disk, so that a model is converted once and starts in a second from then on.

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
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qianwen.model.config import QwenConfig
from qianwen.model.gguf import GgufModel
from qianwen.model.safetensors_file import SafetensorsFile, write_safetensors
from qianwen.model.transformer import Qwen
from qianwen.model.weights import empty_model
from qianwen.quantize import kernels
from qianwen.quantize.linear import QuantLinear, finish, linear_norms, replace_module
from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.files import atomic_folder, cache_dir
from qianwen.runtime.language import tr
from qianwen.runtime.log import console

VERSION = 1  # of the layout: raise it when packed bytes change their meaning
HEADER, TENSORS = "packed.json", "packed.safetensors"
Progress = Callable[[Iterator[str], int], Iterator[str]]


def pack_gguf(file: GgufModel, progress: Progress | None = None) -> Qwen:
    """A GGUF file's network with its quantised matrices as they are, to the last bit."""
    model = empty_model(file.config, len(file.tensors))
    names = [name for name, _ in linear_norms(model)]
    for name in progress(iter(names), len(names)) if progress else names:
        source = "model.embed_tokens" if f"{name}.weight" not in file.tensors else name  # a tied head
        bias = file.tensors.get(f"{name}.bias")
        weight = file.tensors[f"{source}.weight"]
        replace_module(model, name, QuantLinear.from_gguf(weight, None if bias is None else bias.dequantize()))
    rest = (name for name, _ in model.named_parameters())
    model.load_state_dict({name: file.tensors[name].dequantize() for name in rest}, strict=False, assign=True)
    return finish(model)


def converted(source: Path, bits: int | None, convert: Callable[[], Qwen]) -> Qwen:
    """The packed model of `source` (a file or folder): from the cache, or made by `convert` and kept there."""
    folder = cache_dir() / "packed" / _key(source, bits)
    if (folder / HEADER).exists():
        try:
            return load_packed(folder)
        except CheckpointError as error:
            console.print(tr("converting {source} again: {error}", source=source.name, error=error), style="yellow")
    model = convert()
    save_packed(model, folder)
    return model


def _key(source: Path, bits: int | None) -> str:
    """A name that changes with the source's files, the bits and the layout."""
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    stats = [(file.name, (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files if file.is_file()]
    identity = json.dumps([str(source.resolve()), stats, bits, VERSION])
    return f"{source.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def save_packed(model: Qwen, folder: Path) -> None:
    """Write a model whose linears are all packed."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    linears = {
        n: [m.format, m.out_features, m.in_features] for n, m in model.named_modules() if isinstance(m, QuantLinear)
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
        replace_module(model, name, QuantLinear(format, packed, outputs, inputs, bias))
    finish(model).load_state_dict(tensors, strict=False, assign=True)
    return model.requires_grad_(False)


def _read(file: SafetensorsFile, name: str) -> Tensor:
    """A tensor in memory of large pages."""
    entry = file.entries[name]
    memory = kernels.huge_tensor(entry.end - entry.begin)
    with file.path.open("rb") as raw:
        raw.seek(entry.begin)
        raw.readinto(memory.numpy().data)
    return memory.view(entry.dtype).view(entry.shape)


def _crc(tensor: Tensor) -> int:
    return zlib.crc32(tensor.view(-1).view(torch.uint8).numpy().data)
