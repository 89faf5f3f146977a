"""The head of a reward or value model: two files in an ordinary model or adapter folder.

    head.json           {"kind": "scalar", "hidden_size": H}
    head.safetensors    weight [1, H], bias [1]

Programs that do not know these files ignore them and read the language model.
"""

import json
from pathlib import Path

import torch

from qianwen.checkpoints.hf_weights import read_json
from qianwen.checkpoints.load import Bits, LoadedModel, find_model, load_model
from qianwen.checkpoints.safetensors_file import SafetensorsFile, write_safetensors
from qianwen.model.heads import QwenWithHead, ScalarHead
from qianwen.model.linears.lora import device_of
from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.files import atomic_file
from qianwen.runtime.translation import tr

CONFIG, TENSORS = "head.json", "head.safetensors"


def write_head(head: ScalarHead, folder: Path) -> None:
    """Write the head into an existing folder; `write_folder` or `write_adapter` writes the backbone there."""
    tensors = {name: weight.detach() for name, weight in head.named_parameters()}
    plans = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    write_safetensors(folder / TENSORS, plans, tensors.values())
    with atomic_file(folder / CONFIG, "w") as file:
        json.dump({"kind": head.kind, "hidden_size": head.hidden_size}, file, indent=2)


def read_head(folder: Path, hidden_size: int) -> ScalarHead:
    """The head in `folder`, in fp32, for a network of this `hidden_size`. Raises CheckpointError."""
    path = folder / CONFIG
    if not path.exists():
        message = "{path}: there is no {name}, so this is not a reward or value model; give the folder of one"
        raise CheckpointError(tr(message, path=folder, name=CONFIG))
    settings = read_json(path)
    if settings.get("kind") != ScalarHead.kind:
        message = "{path}: head kind {kind!r} is not supported, only {known!r}; try a newer version of qianwen"
        raise CheckpointError(tr(message, path=path, kind=settings.get("kind"), known=ScalarHead.kind))
    if settings.get("hidden_size") != hidden_size:
        message = "{path}: the head has hidden size {found}, the network has {expected}: use both from the same run"
        raise CheckpointError(tr(message, path=path, found=settings.get("hidden_size"), expected=hidden_size))
    if not (folder / TENSORS).exists():
        raise CheckpointError(tr("{path}: {name} is missing; fetch the rest of the model", path=folder, name=TENSORS))
    head, file = ScalarHead(hidden_size), SafetensorsFile(folder / TENSORS)
    expected = {name: tuple(weight.shape) for name, weight in head.named_parameters()}
    found = {name: entry.shape for name, entry in file.entries.items()}
    if found != expected:
        message = "{path}: the tensors are {found}, but {config} needs {expected}: save the head again"
        raise CheckpointError(tr(message, path=file.path, found=found, config=CONFIG, expected=expected))
    for name, weight in head.named_parameters():
        weight.data = file.read(name).to(torch.float32)
    return head


def load_with_head(
    model: str | Path,
    *,
    bits: Bits = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> tuple[QwenWithHead, LoadedModel]:
    """A reward or value model in eval mode, and its backbone as `load_model` returns it.

    Raises the errors of `load_model`, and CheckpointError if there is no head or it is for another network.
    """
    path = find_model(str(model))
    loaded = load_model(model, bits=bits, dtype=dtype, device=device)
    head = read_head(path if path.is_dir() else path.parent, loaded.config.hidden_size)
    return QwenWithHead(loaded.model, head.to(device_of(loaded.model.model.norm))).eval(), loaded
