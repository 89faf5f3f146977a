"""Export of models for other programs: a folder, a GGUF file or an Ollama file, with a model card.

    hf        config, safetensors, tokenizer and chat template for Hugging Face's class; also for vLLM and SGLang
    qwen-v1   the layout of the first Qwen release: fused c_attn, w1 and w2, qwen.tiktoken
    gguf      one file for llama.cpp, or several parts of a maximum size
    ollama    a GGUF file with a Modelfile

Every export is read back and compared with its source (`parity.py`); the result is returned and written in the card.
A copy that agrees too seldom is refused, and nothing of it stays on the disk. Source and copy are never in memory
together, and the folder is replaced atomically.

An adapter is merged into its base. The copy is compared with the model that was trained, as its trainer recorded it; if
there is no record, with base and adapter side by side before the merge.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from qianwen.chat.templates.choose import template_source
from qianwen.checkpoints.adapter_folder import is_adapter
from qianwen.checkpoints.gguf.network import GgufModel, write_model
from qianwen.checkpoints.gguf.tensor_types import ROUNDED, GgufType, Rounding
from qianwen.checkpoints.gptq_folder import is_gptq
from qianwen.checkpoints.hf_folder import END_OF_TEXT, end_ids, write_folder
from qianwen.checkpoints.hf_weights import load_weights, stored_dtype
from qianwen.checkpoints.load import LoadedModel, base_model, find_model, load_model
from qianwen.checkpoints.model_card import Checks, Origin, length_elsewhere, model_card, own_methods
from qianwen.checkpoints.parity import Parity, compare, next_token_logprobs, probe_ids, read_record
from qianwen.checkpoints.tied_tables import tie_one_table
from qianwen.model.linears.lora import adapted, merge
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.runtime.files import atomic_file, atomic_folder
from qianwen.runtime.translation import tr
from qianwen.tokenizer.template_files import QWEN_V1
from qianwen.tokenizer.tokenizer import Tokenizer

Format = Literal["hf", "qwen-v1", "gguf", "ollama"]
Choose = Callable[[LoadedModel, GgufType], Rounding]  # how to round the weights of a model, without its adapter

MIN_AGREEMENT = 0.7  # of a copy with its source, top-1
OLLAMA_CONTEXT = 8192  # tokens; Ollama allocates the cache for all of them
MODELFILE = """\
FROM ./{file}
TEMPLATE \"""{{{{ if .System }}}}<|im_start|>system
{{{{ .System }}}}<|im_end|>
{{{{ end }}}}{{{{ range .Messages }}}}{{{{ if ne .Role "system" }}}}<|im_start|>{{{{ .Role }}}}
{{{{ .Content }}}}<|im_end|>
{{{{ end }}}}{{{{ end }}}}<|im_start|>assistant
\"""
SYSTEM You are a helpful assistant.
PARAMETER stop <|im_start|>
PARAMETER stop <|im_end|>
PARAMETER num_ctx {context}
"""


@dataclass(frozen=True)
class GgufOptions:
    """The number format of a GGUF file, the maximum size of its parts, and how to round formats of four bits.

    Without `choose` all inputs of a linear count the same, and every tensor has the usual format of its file type.
    """

    type: GgufType = "F16"
    max_bytes: int | None = None
    choose: Choose | None = None


@dataclass(frozen=True)
class Exported:
    """The folder of an export, its comparison with the source, and the command that runs it."""

    folder: Path
    parity: Parity
    command: str
    num_bytes: int  # of the weights
    bits_per_weight: float
    own_methods: tuple[str, ...]  # long-context methods that other programs ignore


def export_model(
    model: str,
    folder: str | Path,
    format: Format = "hf",
    *,
    gguf: GgufOptions = GgufOptions(),  # noqa: B008 (frozen)
    dtype: torch.dtype | None = None,
    origin: Origin | None = None,
    min_agreement: float = MIN_AGREEMENT,
) -> Exported:
    """Write MODEL into `folder` in `format`, read it back, compare it with the source, and write a model card.

    `dtype` is the type of safetensors; the default is that of the source, or bfloat16 if the source is a GGUF file or a
    GPTQ folder. Raises ConfigError if the copy has the source's most likely token after less than `min_agreement` of
    the prompts, and for a split Ollama file. CheckpointError: the base of an adapter is not the one of its training.
    """
    if gguf.max_bytes is not None and format != "gguf":
        raise ConfigError(tr("only format gguf can be split into parts, not {format}", format=format))
    if not 0 <= min_agreement <= 1:
        raise ConfigError(tr("min_agreement = {value} must be between 0 and 1", value=min_agreement))
    target, path = Path(folder), find_model(model)
    base = base_model(path)
    is_quantized = base.suffix == ".gguf" or is_gptq(base)
    working = torch.float32 if is_quantized else stored_dtype(base)
    source = load_model(model, dtype=working)
    device = next(source.model.parameters()).device
    reference = _reference(source, path, base, min_agreement)
    merge_error = merge(source.model, probe_ids(source.tokenizer)) if any(adapted(source.model)) else None
    label = f"GGUF {gguf.type}" if format in ("gguf", "ollama") else format
    with atomic_folder(target) as inside:
        if format in ("gguf", "ollama"):
            written, command = _write_gguf(source, inside, target, gguf, format == "ollama")
        else:
            file_dtype = dtype or (torch.bfloat16 if is_quantized else working)
            written, command = _write_folder(source, inside, target, format, file_dtype)
        source.model.to("meta")  # frees its weights before the copy is loaded
        parity = reference.compare(next_token_logprobs(_read_back(written, working, device), source.tokenizer))
        _check_agreement(parity, label, min_agreement)
        num_weights = sum(parameter.numel() for parameter in source.model.parameters())
        num_bytes = sum(file.stat().st_size for file in inside.iterdir() if file.suffix in (".gguf", ".safetensors"))
        bits = num_bytes * 8 / num_weights
        checks = Checks(parity, reference.name, merge_error, reference.of_base, bits)
        facts = {"format": label, "command": command}
        _write_text(inside / "README.md", model_card(source, origin or Origin(model), checks, **facts))
    return Exported(target, parity, command, num_bytes, bits, own_methods(source.config, label))


@dataclass(frozen=True)
class _Reference:
    """What a copy is compared with, in words and as a function; `of_base`: how the loaded weights compare with it."""

    name: str
    compare: Callable[[torch.Tensor], Parity]
    of_base: Parity | None = None


def _reference(source: LoadedModel, path: Path, base: Path, least: float) -> _Reference:
    """The answers of the source; of an adapter, those of the model that was trained if they were recorded."""
    own = next_token_logprobs(source.model, source.tokenizer)
    if not is_adapter(path):
        return _Reference("the source", lambda copy: compare(own, copy))
    record = read_record(path, own.size(1))
    if record is None:
        name = "the base model and the adapter before the merge (the adapter has no record of its training)"
        return _Reference(name, lambda copy: compare(own, copy))
    parity = record.compare(own)
    if parity.top1_agreement < least:
        message = (
            "{path}: the base {base} is not the one that the adapter was trained on: with it the most likely token is "
            "the recorded one after only {top1:.1%} of {count} prompts. Name the right base in adapter_config.json, or "
            "accept this with --min-agreement 0"
        )
        names = {"path": path, "base": base}
        raise CheckpointError(tr(message, top1=parity.top1_agreement, count=parity.num_prompts, **names))
    return _Reference("the model at the end of its training, as recorded then", record.compare, parity)


def _check_agreement(parity: Parity, label: str, least: float) -> None:
    if least == 0 or (parity.top1_agreement >= least and math.isfinite(parity.mean_kl)):
        return
    message = (
        "{label}: the copy has the most likely next token of its source after only {top1:.1%} of {count} prompts (mean "
        "KL divergence {kl:.2f} nats); the limit is {least:.0%}. Nothing was written. Choose a type with more bits "
        "(Q4_K_M, Q8_0), give calibration texts like your own (--data FILE), or accept the loss with --min-agreement 0"
    )
    numbers = {"top1": parity.top1_agreement, "count": parity.num_prompts, "kl": parity.mean_kl, "least": least}
    raise ConfigError(tr(message, label=label, **numbers))


def _write_folder(
    source: LoadedModel, inside: Path, target: Path, format: Format, dtype: torch.dtype
) -> tuple[Path, str]:
    layout = "qwen" if format == "qwen-v1" else "qwen2"
    settings: dict[str, Any] = {"chat": source.chat, "generation": source.generation}
    write_folder(source.model, source.tokenizer, inside, layout=layout, dtype=dtype, **settings)
    longest = length_elsewhere(source.config, format)
    serve = f"vllm serve {target} --served-model-name {source.name} --max-model-len {longest}"
    return inside, f"qianwen chat {target}" if format == "qwen-v1" else serve


def _write_gguf(
    source: LoadedModel, inside: Path, target: Path, options: GgufOptions, for_ollama: bool
) -> tuple[Path, str]:
    file = inside / f"{source.name}-{options.type.lower()}.gguf"
    ends = end_ids(source.tokenizer, source.chat, source.generation)
    eod = source.tokenizer.special_tokens.get(END_OF_TEXT, ends[0])
    extra: dict[str, Any] = {
        "general.name": source.name,
        "tokenizer.ggml.eos_token_id": ends[0],
        "tokenizer.ggml.bos_token_id": eod,
        "tokenizer.ggml.padding_token_id": eod,
    }
    extra |= _template_metadata(source.tokenizer)
    if options.type in ROUNDED:
        tie_one_table(source.model)
    choose = options.choose if options.type in ROUNDED else None
    settings: dict[str, Any] = {"type": options.type, "max_bytes": options.max_bytes}
    settings["rounding"] = choose(source, options.type) if choose else None
    file = write_model(source.model, source.tokenizer.vocabulary, file, extra=extra, **settings)
    if not for_ollama:
        return file, f"llama-cli -m {target / file.name}"
    context = min(length_elsewhere(source.config, "GGUF"), OLLAMA_CONTEXT)
    _write_text(inside / "Modelfile", MODELFILE.format(file=file.name, context=context))
    return file, f"ollama create {source.name.lower()} -f {target / 'Modelfile'}"


def _template_metadata(tokenizer: Tokenizer) -> dict[str, Any]:
    """The chat template as metadata of a GGUF file, and the ids of the tokens that it names."""
    chosen = Tokenizer(tokenizer.vocabulary) if tokenizer.template == QWEN_V1 else tokenizer
    source = template_source(chosen)
    if source is None:
        return {}
    extra: dict[str, Any] = {"tokenizer.chat_template": source.text}
    if source.tool_use is not None:
        extra["tokenizer.chat_template.tool_use"] = source.tool_use
    begin = dict(source.tokens).get("bos_token", "")
    if begin in tokenizer.special_tokens:
        extra["tokenizer.ggml.bos_token_id"] = tokenizer.special_tokens[begin]
    return extra


def _read_back(written: Path, dtype: torch.dtype, device: torch.device) -> Qwen:
    if written.is_file():
        return GgufModel(written).load(dtype=dtype, device=device)
    return load_weights(written, dtype=dtype, device=device)


def _write_text(path: Path, text: str) -> None:
    with atomic_file(path, "w") as file:
        file.write(text)
