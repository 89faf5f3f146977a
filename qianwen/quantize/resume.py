"""What a quantisation that was stopped has done, kept beside the folder to come, so that the same command goes on.

    small.unfinished/made.json        what it is made of, and how
    small.unfinished/layer-00003/     codes, scales and zeros of a layer's linears, as the folder to come has them

A layer is there whole or not at all, and its bytes are checked when it is read. What was made of other weights or
texts, or in another way, is never mixed in. Not here: making layers (`calibration.py`), the folder to come
(`gptq_model.py`), tuned scales, whose checkpoints lie there too (`quantize/tune_scales.py`).
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


class KeptLayers:
    """The layers that are kept in `folder`, all of `bits` bits a weight."""

    def __init__(self, folder: Path, bits: int) -> None:
        self.folder, self.bits = folder, bits

    def read(self, index: int) -> dict[str, Groups] | None:
        """The linears of a layer; None where it is still to be made, or again because its bytes changed."""
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
def work_folder(target: Path, made_of: Mapping[str, Any], told: Callable[[Path], str]) -> Iterator[Path]:
    """`target`.unfinished: gone once the block ends well, or where there is nothing in it that `told` tells of.

    Raises ConfigError where it is of something else than `made_of`, which is what JSON reads back as it was, or another
    process is at it.
    """
    folder = target.with_name(f"{target.name}.unfinished")
    is_over = False
    try:
        with lock(folder):
            _check(folder, made_of, told(folder))
            try:
                yield folder
                is_over = True
            except BaseException:
                if done := told(folder):
                    message = "{done} are saved in {path}; the same command continues from there"
                    console.print(tr(message, done=done, path=folder))
                is_over = not done
                raise
    finally:
        if is_over:  # not while it is locked, which some systems refuse
            shutil.rmtree(folder)


def told_layers(folder: Path) -> str:
    """How many layers are there, in words."""
    count = sum(1 for _ in folder.glob("layer-*"))
    return tr("{count} layers", count=count) if count else ""


def texts_digest(texts: Sequence[Sequence[int]]) -> str:
    """Of token ids, to tell them from others."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(array("q", [len(text), *text]).tobytes())
    return digest.hexdigest()


def _check(folder: Path, made_of: Mapping[str, Any], done: str) -> None:
    path = folder / MADE
    if done:
        try:
            found = flat_config(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, AttributeError) as error:
            raise ConfigError(
                tr("{path} cannot be read ({error}); delete its folder", path=path, error=error)
            ) from error
        wanted = flat_config(dict(made_of))
        changed = [key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)]
        if changed:
            message = "{path} was made with another value of {key}; use the same value, or delete the folder"
            raise ConfigError(tr(message, path=folder, key=min(changed)))
        console.print(tr("continuing after {done} in {path}", done=done, path=folder))
    write_json(path, made_of)
