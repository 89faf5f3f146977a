"""Saved progress of a quantisation: finished layers, so that the same command continues after an interruption.

    small.unfinished/made.json        the inputs (weights, texts) and the options
    small.unfinished/layer-00003/     codes, scales and zeros of a layer's linears, in the format of the output folder

A layer is written atomically, and its checksums are verified when it is read. Layers made with other weights, texts or
options are refused. Not here: quantising layers (`calibration.py`), the output folder (`gptq_model.py`), and tuned
scales, whose checkpoints are in the same folder (`quantize/tune_scales.py`).
"""

import hashlib
import json
import shutil
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qianwen.checkpoints.hf_folder import write_json
from qianwen.checkpoints.safetensors_file import SafetensorsFile, write_safetensors
from qianwen.model.linears.gptq_layout import TENSORS, Groups, from_gptq, to_gptq
from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.runtime.files import atomic_folder, flat_config, lock, verify_folder
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

MADE = "made.json"
CODES = "codes.safetensors"


class SavedLayers:
    """The finished layers in `folder`, all with `bits` bits per weight."""

    def __init__(self, folder: Path, bits: int) -> None:
        self.folder, self.bits = folder, bits

    def read(self, index: int) -> dict[str, Groups] | None:
        """The linears of a layer; None if the layer is not finished, or its checksum is wrong."""
        folder = self._layer(index)
        if not folder.exists():
            return None
        try:
            verify_folder(folder)
        except CheckpointError as error:
            console.print(tr("{error}; regenerated", error=error), style="yellow")
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
def work_folder(target: Path, made_of: Mapping[str, Any], describe: Callable[[Path], str]) -> Iterator[Path]:
    """The folder `target`.unfinished. It is deleted when the block succeeds, or when it contains no progress.

    `describe` returns the progress in words, or "". `made_of` are the inputs and options as plain JSON. Raises
    ConfigError if the folder was made with other inputs or options, or another process uses it.
    """
    folder = target.with_name(f"{target.name}.unfinished")
    is_over = False
    try:
        with lock(folder):
            _check(folder, made_of, describe(folder))
            try:
                yield folder
                is_over = True
            except BaseException:
                if done := describe(folder):
                    message = "{done} are saved in {path}; the same command continues from there"
                    console.print(tr(message, done=done, path=folder))
                is_over = not done
                raise
    finally:
        if is_over:  # after the lock is released: some systems do not delete a locked folder
            shutil.rmtree(folder)


def layers_done(folder: Path) -> str:
    """The number of finished layers, in words; empty if there are none."""
    count = sum(1 for _ in folder.glob("layer-*"))
    return tr("{count} layers", count=count) if count else ""


def texts_digest(texts: Sequence[Sequence[int]]) -> str:
    """SHA-256 of lists of token ids. Lengths are included, so that moving a boundary changes it."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(array("q", [len(text), *text]).tobytes())
    return digest.hexdigest()


def _check(folder: Path, made_of: Mapping[str, Any], done: str) -> None:
    path = folder / MADE
    if done:
        try:
            saved = flat_config(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, AttributeError) as error:
            raise ConfigError(
                tr("{path} cannot be read ({error}); delete its folder", path=path, error=error)
            ) from error
        current = flat_config(dict(made_of))
        changed = [key for key in current.keys() | saved.keys() if current.get(key) != saved.get(key)]
        if changed:
            message = "{path} was made with another value of {key}; use the same value, or delete the folder"
            raise ConfigError(tr(message, path=folder, key=min(changed)))
        console.print(tr("continuing after {done} in {path}", done=done, path=folder))
    write_json(path, made_of)
