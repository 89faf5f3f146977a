"""MODEL → its network, its tokenizer, and the generation settings that its author recommends.

All commands accept these forms of MODEL:

    models/Qwen-7B-Chat, model.safetensors    a folder of Qwen v1, 1.5, 2, 2.5, 3 or Llama, or a file in it
    qwen2.5-0.5b-q4_k_m.gguf                  a GGUF file, any of its parts, or a folder with them
    demo, runs/demo                           a run of `qianwen`
    Qwen/Qwen2.5-0.5B-Instruct                a name on the Hugging Face hub; `modelscope:` before it for ModelScope
    runs/service, adapters/mine               an adapter in PEFT's format; its config names its base MODEL

Local files have priority. A hub is contacted only if MODEL is not a local path and has the form of a hub name.
"""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from qianwen.checkpoints.adapter_folder import base_of, is_adapter, load_adapter
from qianwen.checkpoints.generation_config import GENERATION as GENERATION
from qianwen.checkpoints.generation_config import gguf_generation, read_generation
from qianwen.checkpoints.gguf.file import MAGIC
from qianwen.checkpoints.gguf.network import GgufModel
from qianwen.checkpoints.gguf.parts import part_paths, stem_of
from qianwen.checkpoints.gptq_folder import QUANTIZATION, as_floats, as_packed, gptq_model, is_gptq, read_format
from qianwen.checkpoints.hf_config import config_from_hf
from qianwen.checkpoints.hf_weights import CONFIG, PICKLES, load_weights, pickle_error, read_json, stored_dtype
from qianwen.checkpoints.hub import fetch_model, is_hub_name
from qianwen.checkpoints.nf4_network import nf4_model
from qianwen.checkpoints.packed_cache import converted, gguf_bits, packed_model
from qianwen.checkpoints.recommended_sampling import Recommended, recommended_sampling
from qianwen.checkpoints.rope_scaling import length_notes
from qianwen.kernels.cpu import operators
from qianwen.model.config import QwenConfig
from qianwen.model.linears.packed import HEAD_BITS, pack_model, to_device
from qianwen.model.transformer import Qwen
from qianwen.runtime.device import best_device, compute_dtype
from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.runtime.files import runs_dir
from qianwen.runtime.log import notices
from qianwen.runtime.translation import tr
from qianwen.tokenizer.template_files import template_from_gguf
from qianwen.tokenizer.tokenizer import Tokenizer

Bits = Literal["stored", "nf4", 4, 5, 8, 16] | None
END_OF_TURN = "<|im_end|>"
ENDS_OF_TURN = (END_OF_TURN, "<|eot_id|>")  # DeepSeek's models end their turns with the token that ends every text
HUB_FOLDER = re.compile(r"models--.+--(?P<name>.+)")  # a repository in the hub's cache


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode, with its tokenizer and settings."""

    model: Qwen
    tokenizer: Tokenizer
    config: QwenConfig
    generation: dict[str, Any]  # the contents of generation_config.json; `eos_token_id` is always a list
    name: str
    chat: bool  # whether it is a chat model, which ends its turns
    sampling: Recommended = Recommended()


def load_model(
    model: str | Path,
    *,
    bits: Bits = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> LoadedModel:
    """Find MODEL and load it on `device` (default: the best one), as floats for training or packed for generation.

    `bits` None: floats of `dtype` (default: the compute type of the device). 4, 5, 8 or 16: packed linears with this
    number of bits per weight, converted once and stored in the cache; a GGUF file or GPTQ folder that already has this
    number keeps its codes. "stored": the number of bits of the file if the fast kernels run, else floats. "nf4": four
    bits, as the base of an adapter; a GPTQ folder keeps its codes.
    Raises CheckpointError for damaged files and models that no hub has, ConfigError if MODEL has no valid form or its
    network is not supported.
    """
    path = find_model(str(model))
    device = torch.device(device) if device else best_device()
    base = base_model(path)
    source = GgufModel(base) if base.suffix == ".gguf" else base
    network = _network(source, bits, dtype or compute_dtype(device), device)
    if path != base:
        network = load_adapter(network, path)
    tokenizer, generation = _vocabulary(source, path)
    name, chat = (
        model_name(str(model)),
        is_chat(generation, tokenizer.special_tokens, has_template=tokenizer.template is not None),
    )
    sampling = _sampling(generation, network.config, tokenizer, chat=chat)
    raw = {} if isinstance(source, GgufModel) else read_json(source / CONFIG)
    for note in length_notes(network.config, name, raw):
        notices.print(note, style="yellow", markup=False)
    return LoadedModel(network, tokenizer, network.config, generation, name, chat, sampling)


class OpenModel(NamedTuple):
    """A model whose config and tokenizer are read, but not its weights."""

    path: Path  # the folder or file of MODEL; for an adapter, the adapter's folder
    source: GgufModel | Path  # where the weights are
    config: QwenConfig
    tokenizer: Tokenizer
    generation: dict[str, Any]
    name: str
    chat: bool
    sampling: Recommended

    @property
    def bits(self) -> int | None:
        """Bits per weight of a GPTQ folder; None for floats and GGUF files."""
        return read_format(self.source).bits if isinstance(self.source, Path) and is_gptq(self.source) else None


def open_model(model: str) -> OpenModel:
    """Find MODEL and read its config and tokenizer. Raises the same errors as `load_model`."""
    path = find_model(model)
    source, config = source_and_shape(base_model(path))
    tokenizer, generation = _vocabulary(source, path)
    chat = is_chat(generation, tokenizer.special_tokens, has_template=tokenizer.template is not None)
    sampling = _sampling(generation, config, tokenizer, chat=chat)
    return OpenModel(path, source, config, tokenizer, generation, model_name(model), chat, sampling)


def source_and_shape(base: Path) -> tuple[GgufModel | Path, QwenConfig]:
    """A folder or an opened GGUF file, and the config of its network; no weights are read."""
    if base.suffix == ".gguf":
        source = GgufModel(base)
        return source, source.config
    return base, config_from_hf({k: v for k, v in read_json(base / CONFIG).items() if k != QUANTIZATION})


def _network(source: GgufModel | Path, bits: Bits, dtype: torch.dtype, device: torch.device) -> Qwen:
    num_bits = _stored_bits(source, device) if bits == "stored" else bits
    if isinstance(source, Path) and is_gptq(source):
        return _gptq_network(source, num_bits, dtype, device)
    if num_bits == "nf4":
        return nf4_model(source, dtype=dtype, device=device)
    if num_bits == 16 and device.type != "cpu":  # plain bfloat16 is as fast there
        dtype, num_bits = torch.bfloat16, None
    if num_bits is not None:
        return to_device(packed_model(source, num_bits), device)
    if isinstance(source, GgufModel):
        return source.load(dtype=dtype, device=device)
    return load_weights(source, dtype=dtype, device=device)


def _gptq_network(folder: Path, bits: int | Literal["nf4"] | None, dtype: torch.dtype, device: torch.device) -> Qwen:
    if bits == "nf4":
        return gptq_model(folder, dtype=dtype, device=device)
    if bits is None:
        return as_floats(gptq_model(folder, dtype=dtype, device=device), dtype)
    if bits == read_format(folder).bits:
        packed = converted(folder, bits, lambda: as_packed(gptq_model(folder, dtype=torch.float32)))
    else:
        floats = as_floats(gptq_model(folder, dtype=torch.float32), torch.float32)
        packed = pack_model(floats, bits, head_bits=max(bits, HEAD_BITS))
    return to_device(packed, device)


def _vocabulary(source: GgufModel | Path, path: Path) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer and the recommended settings: from the adapter if it has them, else from its base."""
    if isinstance(source, GgufModel):
        tokenizer = Tokenizer(source.vocabulary, template=template_from_gguf(source.metadata))
        generation = gguf_generation(source.metadata, source.path)
    else:
        tokenizer, generation = Tokenizer.from_folder(source), read_generation(source)
    if is_adapter(path):
        if any((path / file).exists() for file in ("tokenizer.json", "vocab.json", "qwen.tiktoken")):
            own = Tokenizer.from_folder(path)
            tokenizer = Tokenizer(own.vocabulary, template=own.template or tokenizer.template)
        if (path / GENERATION).exists():
            generation = read_generation(path)
    return tokenizer, generation


def _sampling(generation: dict[str, Any], config: QwenConfig, tokenizer: Tokenizer, *, chat: bool) -> Recommended:
    template = tokenizer.template.text if tokenizer.template else None
    special = tokenizer.special_tokens
    return recommended_sampling(generation, config.architecture, special, chat=chat, template=template)


def _stored_bits(source: GgufModel | Path, device: torch.device) -> int | None:
    """Bits per weight that a packed copy of `source` needs to be exact; None if floats are as fast."""
    if device.type != "cpu" or not operators.available():
        return None
    if isinstance(source, GgufModel):
        return gguf_bits(source)
    if is_gptq(source):
        return read_format(source).bits
    return 16 if stored_dtype(source) == torch.bfloat16 else None


def model_name(model: str) -> str:
    """A short name for MODEL: the name of the run, the file or the repository."""
    # Links are not followed: in a hub cache they lead to files that are named after their hashes.
    path = Path(os.path.abspath(Path(model).expanduser()))
    if is_hub_name(model) and not path.exists():
        path = Path(model.rpartition(":")[2].partition("@")[0])
    if path.suffix == ".gguf":
        return stem_of(path)
    if path.suffix == ".safetensors" or path.name == CONFIG:
        path = path.parent
    if path.name == "model":  # of a run
        path = path.parent
    cached = HUB_FOLDER.fullmatch(path.parent.parent.name) if path.parent.name == "snapshots" else None
    return cached["name"] if cached else path.name


def base_model(path: Path) -> Path:
    """The path of the weights: `path` itself, or the base model if `path` is an adapter."""
    if not is_adapter(path):
        return path
    base = find_model(base_of(path))
    if is_adapter(base):
        message = "{path}: its base {base} is an adapter too; merge that one first with `qianwen export`"
        raise CheckpointError(tr(message, path=path, base=base))
    return base


def find_model(model: str) -> Path:
    """The weight folder, adapter folder or GGUF file of MODEL, downloaded if it is a hub name."""
    for path in (Path(model).expanduser(), runs_dir() / model):
        if path.is_file():
            return _of_file(path)
        if path.is_dir():
            return _of_folder(path)
    # If the first part exists locally, MODEL is a mistyped path and not a hub name: do not ask the hub.
    if is_hub_name(model) and not Path(Path(model).parts[0]).exists():
        return fetch_model(model)
    raise _unknown(model)


def weights_name(model: str) -> str:
    """How an adapter's config names its base MODEL: the folder or file with the weights, or a hub name.

    PEFT opens only a folder with config.json, not the run folder around it.
    """
    is_local = Path(model).expanduser().exists() or (runs_dir() / model).exists()
    return str(find_model(model).resolve()) if is_local else model


def _of_file(path: Path) -> Path:
    if path.suffix in PICKLES:
        raise pickle_error(path)
    if path.suffix == ".gguf":
        return path
    if path.suffix == ".safetensors" or path.name == CONFIG:
        return path.parent
    with path.open("rb") as file:
        if file.read(len(MAGIC)) == MAGIC:  # a blob of Ollama or of a hub's cache
            message = "{path} is a GGUF file without the suffix .gguf; rename it, or make a link with that suffix"
            raise ConfigError(tr(message, path=path))
    raise _unknown(str(path))


def _of_folder(path: Path) -> Path:
    if (path / "run.json").exists():
        if (path / "model" / CONFIG).exists() or is_adapter(path / "model"):
            return path / "model"
        message = "{path}: this run has not written a model yet; wait for it, or resume it with the same command"
        raise ConfigError(tr(message, path=path))
    if (path / CONFIG).exists() or is_adapter(path):
        return path
    files = sorted({part_paths(file)[0] for file in path.glob("*.gguf")})
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(file.name for file in files)
        raise ConfigError(tr("{path} has several GGUF files, give one of them: {names}", path=path, names=names))
    pickles = [file for file in sorted(path.iterdir()) if file.suffix in PICKLES]
    raise pickle_error(pickles[0]) if pickles else _unknown(str(path))


def _unknown(model: str) -> ConfigError:
    path = Path(model).expanduser()
    names = [str(each) for each in path.parent.iterdir() if _may_be_model(each)] if path.parent.is_dir() else []
    names += [each.name for each in runs_dir().iterdir() if _may_be_model(each)] if runs_dir().is_dir() else []
    close = difflib.get_close_matches(str(Path(model)), [name for name in names if name != str(Path(model))], n=3)
    hint = tr(" Did you mean {names}?", names=", ".join(close)) if close else ""
    if path.is_file():
        hint = tr(" It is a file of another kind; training data is given with --data FILE.") + hint
    message = (
        "{model} is not a model.{hint} A model is a folder with config.json and safetensors, a .gguf file, a run "
        "({runs}/NAME), or a hub name (Qwen/Qwen2.5-0.5B-Instruct, modelscope:Qwen/Qwen-7B-Chat)."
    )
    return ConfigError(tr(message, model=model, hint=hint, runs=runs_dir()))


def _may_be_model(path: Path) -> bool:
    return path.suffix in (".gguf", ".safetensors") or any((path / name).exists() for name in (CONFIG, "run.json"))


def is_chat(generation: Mapping[str, Any], special_tokens: Mapping[str, int], *, has_template: bool) -> bool:
    """Whether the end of a turn ends generation, or `chat_format` (Qwen v1) is "chatml"."""
    ends_turns = any(special_tokens.get(name) in generation["eos_token_id"] for name in ENDS_OF_TURN)
    ends_turns = ends_turns or ("<｜Assistant｜>" in special_tokens and has_template)
    return ends_turns or generation.get("chat_format") == "chatml"
