"""Weight folders of Qwen v1, Qwen1.5 / 2 / 2.5, Qwen3 and Llama ↔ our network.

A model is built on the meta device, without memory, and gets each tensor in its final type and on its final device. So
loading needs memory for the weights and one more tensor. Tensors that are missing, unexpected or of another shape are
reported by file and name before weights are read. Pickles (`.bin`, `.pt`) can run code when opened, so they are
rejected. The tokenizer and generation settings are in `hf_folder.py`, quantised checkpoints in `gptq_folder.py`.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from qianwen.checkpoints.hf_config import config_from_hf, config_to_hf
from qianwen.checkpoints.safetensors_file import SafetensorsFile, write_safetensors
from qianwen.checkpoints.tensor_names import V1_NAMES, Stack, check_tensors, renaming_of, stacks, without_head
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen, empty_network
from qianwen.runtime.atomic import MANIFEST
from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.files import atomic_file, atomic_folder, verify_folder
from qianwen.runtime.log import console, notices, progress
from qianwen.runtime.placeholders import check_contents
from qianwen.runtime.translation import tr

Layout = Literal["qwen2", "qwen"]

CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
SHARD = re.compile(r".+-\d{5}-of-(?P<count>\d{5})\.safetensors")
SHARD_BYTES = 4 << 30
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

Plan = tuple[torch.dtype, tuple[int, ...]]  # type and shape of a tensor in the file to write


def empty_model(config: QwenConfig, num_tensors: int) -> Qwen:
    """The network on the meta device, without memory; `fill` gives it the weights of `num_tensors` file tensors.

    A damaged config may have a huge number of layers, so it is compared with the number of tensors first.
    """
    if config.num_hidden_layers > num_tensors:
        message = "num_hidden_layers = {layers} is too large: the files have {count} tensors"
        raise CheckpointError(tr(message, layers=config.num_hidden_layers, count=num_tensors))
    try:
        return empty_network(config)
    except RuntimeError as error:  # a product of sizes overflows
        raise CheckpointError(tr("the sizes in config.json are too large: {error}", error=error)) from error


def fill(model: Qwen, parameters: Iterable[tuple[str, Tensor]]) -> Qwen:
    """Give an empty model its weights by name, in their final type and on their device. Returns it in eval mode."""
    count = sum(1 for _ in model.parameters())
    arriving = progress(parameters, count, tr("loading weights")) if console.is_terminal else parameters
    model.load_state_dict(dict(arriving), strict=False, assign=True)
    model.tie_weights()
    return model.eval()


# ---- folders ----------------------------------------------------------------------------------------------------


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. CheckpointError if it cannot be read."""
    try:
        check_contents(path)
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(tr("{path}: cannot be read ({error})", path=path, error=error.strerror)) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(tr("{path}: not valid JSON ({error})", path=path, error=error)) from error
    if not isinstance(content, dict):
        raise CheckpointError(tr("{path}: not a JSON object", path=path))
    return content


def load_weights(folder: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Qwen:
    """The model in a folder of `config.json` and safetensors; its hashes are checked if it has a manifest.

    Raises CheckpointError for damaged or unexpected files, ConfigError for a network that is not supported.
    """
    return fill(*read_weights(Path(folder), dtype, device))


def read_weights(
    folder: Path, dtype: torch.dtype, device: torch.device | str
) -> tuple[Qwen, Iterator[tuple[str, Tensor]]]:
    """The empty network of a folder, and an iterator that reads its parameters one by one."""
    raw = read_json(folder / CONFIG)
    if quantization := raw.get("quantization_config"):
        message = "{path}: quantised weights ({how}) are not supported here; use the 16-bit folder or a GGUF file"
        raise CheckpointError(tr(message, path=folder, how=quantization))
    config, where = config_from_hf(raw), inventory(folder)
    if without_head(config, where):
        message = (
            "{path} is an embedding model without an output head; use it for embeddings, its texts have no meaning"
        )
        notices.print(tr(message, path=folder), style="yellow", markup=False)
        config = replace(config, tie_word_embeddings=True)
    model = empty_model(config, len(where))
    actual = {name: (file.path, file.entries[name].shape) for name, file in where.items()}
    if config.tie_word_embeddings:  # some files have a copy of the tied weight
        actual = {name: entry for name, entry in actual.items() if not name.endswith("lm_head.weight")}
    expected = stacks(model, renaming_of(actual))
    check_tensors(expected, actual, folder)
    return model, _parts(where, expected, dtype, device)


def _parts(
    where: Mapping[str, SafetensorsFile], expected: Mapping[str, Stack], dtype: torch.dtype, device: torch.device | str
) -> Iterator[tuple[str, Tensor]]:
    """Read one file tensor after another and cut it into our parameters."""
    for file_name, stack in expected.items():
        parts = where[file_name].read(file_name).split(stack.rows)
        for name, part in zip(stack.names, parts, strict=True):
            # Parts are views of the file tensor; without a copy each would keep the memory of the full tensor.
            yield name, part.to(device, dtype, copy=len(parts) > 1)


def stored_dtype(folder: Path) -> torch.dtype:
    """The data type of the largest tensor in the first file of a folder."""
    file = SafetensorsFile(_weight_files(folder)[0])
    return max(file.entries.values(), key=lambda entry: entry.end - entry.begin).dtype


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: those in its index, or the single file."""
    if (folder / INDEX).exists():
        listed = read_json(folder / INDEX).get("weight_map")
        if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
            raise CheckpointError(tr("{path}: weight_map is missing or not valid; fetch it again", path=folder / INDEX))
        names = sorted(set(listed.values()))
    else:
        names = [SINGLE] if (folder / SINGLE).exists() else _unlisted_files(folder) or [SINGLE]
    for name in names:
        if Path(name).name != name:
            message = "{path}: {name} is not a file name in this folder; fetch the index again"
            raise CheckpointError(tr(message, path=folder / INDEX, name=name))
        if not (folder / name).is_file():
            raise _missing_file(folder, name)
    return [folder / name for name in names]


def _unlisted_files(folder: Path) -> list[str]:
    """The weights of a folder without index: the only file of another name, or all shards by their numbers; or none."""
    names = sorted(
        file.name for file in folder.glob("*.safetensors") if not file.name.startswith(("adapter_", "head."))
    )
    shards = [match for name in names if (match := SHARD.fullmatch(name))]
    if len(shards) == len(names):
        return names if shards and {int(shard["count"]) for shard in shards} == {len(names)} else []
    return names if len(names) == 1 else []


def _missing_file(folder: Path, name: str) -> CheckpointError:
    if pickles := sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES):
        return pickle_error(folder / pickles[0])
    return CheckpointError(tr("{path}: {name} is missing; fetch the rest of the model", path=folder, name=name))


def pickle_error(path: Path) -> CheckpointError:
    """The error for a pickle, with the ways to get a safe file."""
    message = (
        "{path} is a pickle: opening it can run any code. Use a safetensors revision of the model, or convert it in an "
        "isolated environment: torch.load(..., weights_only=True), then safetensors.torch.save_file"
    )
    return CheckpointError(tr(message, path=path))


def inventory(folder: Path) -> dict[str, SafetensorsFile]:
    """Tensor name → its file in `folder`. The hashes of the files are checked first if the folder has a manifest."""
    where: dict[str, SafetensorsFile] = {}
    files = _weight_files(folder)
    if (folder / MANIFEST).exists():
        verify_folder(folder)
    for file in map(SafetensorsFile, files):
        for name in file.entries:
            if name in where:
                message = "{path}: tensor {name} is both in {first} and in {second}; fetch the model again"
                first, second = where[name].path.name, file.path.name
                raise CheckpointError(tr(message, path=folder, name=name, first=first, second=second))
            where[name] = file
    return where


# ---- writing ----------------------------------------------------------------------------------------------------


def save_weights(model: Qwen, folder: str | Path, layout: Layout = "qwen2", **options: Any) -> None:
    """`write_weights` into a temporary folder, which then replaces `folder` atomically."""
    with atomic_folder(folder) as temporary:
        write_weights(model, temporary, layout, **options)


def write_weights(
    model: Qwen,
    folder: Path,
    layout: Layout = "qwen2",
    *,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write `config.json` and safetensors into an existing folder, in `dtype` or the type of the model.

    `qwen2` is the layout of Hugging Face, for the class of the model (Qwen2, Qwen3 or Llama); `qwen` is that of Qwen
    v1.
    """
    dtype = dtype or next(model.parameters()).dtype
    raw = config_to_hf(model.config, "qwen" if layout == "qwen" else "") | {
        "torch_dtype": str(dtype).removeprefix("torch.")
    }
    layout_stacks = stacks(model, V1_NAMES if layout == "qwen" else ())
    plans = {name: (dtype, stack.shape) for name, stack in layout_stacks.items()}
    tensors = stacked(layout_stacks.values(), dict(model.named_parameters()))
    write_shards(folder, plans, tensors, shard_bytes=shard_bytes)
    _write_json(folder / CONFIG, raw)


def write_shards(
    folder: Path, plans: Mapping[str, Plan], tensors: Iterable[Tensor], *, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write `tensors`, in the order of `plans`, to one file or to several files with an index."""
    arriving, shards = iter(tensors), _shards(plans, shard_bytes)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = SINGLE if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_safetensors(folder / file, shard, islice(arriving, len(shard)))
        weight_map |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        total = sum(map(_plan_bytes, plans.values()))
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def stacked(tensor_stacks: Iterable[Stack], parameters: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """The file tensors of `tensor_stacks`, one at a time."""
    for stack in tensor_stacks:
        parts = [parameters[name].detach() for name in stack.names]
        yield parts[0] if len(parts) == 1 else torch.cat(parts)


def _shards(plans: Mapping[str, Plan], limit: int) -> list[dict[str, Plan]]:
    """Divide the tensors, in order, into shards of at most `limit` bytes; a larger tensor is a shard by itself."""
    shards: list[dict[str, Plan]] = [{}]
    room = limit
    for name, plan in plans.items():
        size = _plan_bytes(plan)
        if size > room and shards[-1]:
            shards.append({})
            room = limit
        shards[-1][name] = plan
        room -= size
    return shards


def _plan_bytes(plan: Plan) -> int:
    dtype, shape = plan
    return torch.Size(shape).numel() * dtype.itemsize


def _write_json(path: Path, contents: Mapping[str, Any]) -> None:
    with atomic_file(path, "w") as file:
        json.dump(contents, file, indent=2, ensure_ascii=False)
