"""GGUF models in several files, as llama.cpp splits them: NAME-00001-of-00003.gguf and so on.

Each part is a GGUF file. Its metadata has its number, the number of parts and the number of all tensors; the first part
also has the rest of the metadata. The path of any part opens all parts.
"""

import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from qianwen.checkpoints.gguf.file import GgufFile, TensorPlan, write_gguf
from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.translation import tr

PART = re.compile(r"(?P<name>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
NUMBER, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"


def stem_of(path: Path) -> str:
    """The name of a GGUF model, without suffix and part number.

    >>> stem_of(Path("qwen-00002-of-00003.gguf")), stem_of(Path("qwen.gguf"))
    ('qwen', 'qwen')
    """
    match = PART.fullmatch(path.name)
    return match["name"] if match else path.stem


def part_paths(path: Path) -> list[Path]:
    """All files of the model of `path` in order, whether they exist or not: `path` alone, or all parts."""
    match = PART.fullmatch(path.name)
    return _numbered(path.with_name(match["name"]), int(match["count"])) if match else [path]


def _numbered(stem: Path, count: int) -> list[Path]:
    return [stem.with_name(f"{stem.name}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]


def open_gguf(path: str | Path) -> GgufFile:
    """The file, or the first part with the tensors of all parts. CheckpointError for a missing or wrong part."""
    paths = part_paths(Path(path))
    missing = [part.name for part in paths if not part.is_file()] if len(paths) > 1 else []
    if missing:
        message = "{path} is one of {count} parts, but its folder does not have {missing}; download the missing parts"
        raise CheckpointError(tr(message, path=path, count=len(paths), missing=", ".join(missing)))
    first, *others = files = list(map(GgufFile, paths))
    for number, file in enumerate(files):
        if (file.metadata.get(NUMBER, 0), max(file.metadata.get(COUNT, 1), 1)) != (number, len(files)):
            message = "{path} is part {part} of {count} by its metadata, but not by its name; restore the original name"
            part, count = file.metadata.get(NUMBER, 0) + 1, file.metadata.get(COUNT, 1)
            raise CheckpointError(tr(message, path=file.path, part=part, count=count))
    expected = first.metadata.get(TENSORS, len(first.tensors)) if others else len(first.tensors)
    for file in others:
        if duplicates := first.tensors.keys() & file.tensors.keys():
            message = "{path}: tensor {name} is also in another part; download the parts again"
            raise CheckpointError(tr(message, path=file.path, name=min(duplicates)))
        first.tensors |= file.tensors
    if len(first.tensors) != expected:
        message = "{path}: the parts have {found} of {expected} tensors; download them again"
        raise CheckpointError(tr(message, path=path, found=len(first.tensors), expected=expected))
    return first


def write_parts(
    path: Path, metadata: dict[str, Any], plans: list[TensorPlan], tensors: Iterable[Tensor], max_bytes: int
) -> Path:
    """Write parts with at most `max_bytes` of tensors each, and return the first file.

    A tensor larger than `max_bytes` is a part by itself. If all tensors fit one part, only `path` is written.
    """
    parts: list[list[TensorPlan]] = [[]]
    for plan in plans:
        if parts[-1] and sum(each.size for each in parts[-1]) + plan.size > max_bytes:
            parts.append([])
        parts[-1].append(plan)
    if len(parts) == 1:
        write_gguf(path, metadata, plans, tensors)
        return path
    data, paths = iter(tensors), _numbered(path.with_suffix(""), len(parts))
    for number, (file, part) in enumerate(zip(paths, parts, strict=True)):
        own = {NUMBER: np.uint16(number), COUNT: np.uint16(len(parts)), TENSORS: np.int32(len(plans))}
        write_gguf(file, (metadata if number == 0 else {}) | own, part, islice(data, len(part)))
    return paths[0]
