"""Layers of a quantisation that was stopped: kept beside the folder to come, so that the same command goes on.

    small.unfinished/made.json        what they are made of, and how
    small.unfinished/layer-00003/     codes, scales and zeros of a layer's linears, as the folder to come has them

A layer is there whole or not at all, and its bytes are checked when it is read. Layers made of other weights or texts,
or in another way, are never mixed in. Not here: making layers (`calibrate.py`), the folder to come (`reduce.py`).
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qianwen.model.safetensors_file import SafetensorsFile, write_safetensors
from qianwen.quantize.folder import write_json
from qianwen.quantize.groups import TENSORS, Groups, from_gptq, to_gptq
from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.runtime.files import atomic_folder, flat_config, lock, verify_folder
from qianwen.runtime.language import tr
from qianwen.runtime.log import console

MADE = "made.json"
CODES = "codes.safetensors"


class Unfinished:
    """The layers that are kept in `folder`, all of `bits` bits a weight."""

    def __init__(self, folder: Path, bits: int) -> None:
        self.folder, self.bits = folder, bits

    @property
    def count(self) -> int:
        """Layers that are there."""
        return sum(1 for _ in self.folder.glob("layer-*"))

    def read(self, index: int) -> dict[str, Groups] | None:
        """The linears of a layer; None where it is still to be made, or again because its bytes changed."""
        folder = self._layer(index)
        if not folder.exists():
            return None
        try:
            verify_folder(folder)
        except CheckpointError as error:
            console.print(tr("{error}; made again", error=error), style="yellow")
            return None
        file = SafetensorsFile(folder / CODES)
        names = dict.fromkeys(name.rpartition(".")[0] for name in file.entries)
        return {name: from_gptq({part: file.read(f"{name}.{part}") for part in TENSORS}, self.bits) for name in names}

    def write(self, index: int, made: Mapping[str, Groups]) -> None:
        tensors = {f"{name}.{part}": x for name, groups in made.items() for part, x in to_gptq(groups).items()}
        plans = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
        with atomic_folder(self._layer(index)) as inside:
            write_safetensors(inside / CODES, plans, tensors.values())

    def _layer(self, index: int) -> Path:
        return self.folder / f"layer-{index:05}"


@contextmanager
def unfinished(target: Path, bits: int, made_of: Mapping[str, Any]) -> Iterator[Unfinished]:
    """The layers of the folder `target` that are there; gone once the block ends well, or before the first is made.

    Raises ConfigError where they are made of something else than `made_of`, which is what JSON reads back as it was, or
    another process is at them.
    """
    kept = Unfinished(target.with_name(f"{target.name}.unfinished"), bits)
    is_over = False
    try:
        with lock(kept.folder):
            _check(kept, made_of)
            try:
                yield kept
                is_over = True
            except BaseException:
                is_over = not kept.count
                if not is_over:
                    message = "{count} layers are kept in {path}: the same command goes on"
                    console.print(tr(message, count=kept.count, path=kept.folder))
                raise
    finally:
        if is_over:  # not while it is locked, which some systems refuse
            shutil.rmtree(kept.folder)


def _check(kept: Unfinished, made_of: Mapping[str, Any]) -> None:
    path = kept.folder / MADE
    if kept.count:
        try:
            found = flat_config(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, AttributeError) as error:
            raise ConfigError(
                tr("{path} cannot be read ({error}): delete its folder", path=path, error=error)
            ) from error
        wanted = flat_config(dict(made_of))
        changed = [key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)]
        if changed:
            message = (
                "{path} holds layers that were made with another {key}: give what they were made with, or delete it"
            )
            raise ConfigError(tr(message, path=kept.folder, key=min(changed)))
        console.print(tr("going on after {count} layers in {path}", count=kept.count, path=kept.folder))
    write_json(path, made_of)
