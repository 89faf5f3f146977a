"""Export of models for other programs: a folder, a GGUF file or an Ollama file, with a model card.

    hf        config, safetensors, tokenizer and chat template for Hugging Face's class; also for vLLM and SGLang
    qwen-v1   the layout of the first Qwen release: fused c_attn, w1 and w2, qwen.tiktoken
    gguf      one file for llama.cpp, or several parts of a maximum size
    ollama    a GGUF file with a Modelfile

Every export is read back and compared with its source (`parity.py`); the result is returned and written in the card.
Source and copy are never in memory together, and the folder is replaced atomically. An adapter is merged into its base,
and the copy is compared with base and adapter before the merge.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from qianwen.chat.templates.choose import template_source
from qianwen.checkpoints.gguf.network import GgufModel, write_model
from qianwen.checkpoints.gptq_folder import is_gptq
from qianwen.checkpoints.hf_folder import END_OF_TEXT, end_ids, write_folder
from qianwen.checkpoints.hf_weights import load_weights, stored_dtype
from qianwen.checkpoints.load import LoadedModel, base_model, find_model, load_model
from qianwen.checkpoints.model_card import Origin, model_card
from qianwen.checkpoints.parity import Parity, compare, next_token_logprobs, probe_ids
from qianwen.model.linears.lora import adapted, merge
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import atomic_file, atomic_folder
from qianwen.runtime.translation import tr
from qianwen.tokenizer.template_files import QWEN_V1
from qianwen.tokenizer.tokenizer import Tokenizer

Format = Literal["hf", "qwen-v1", "gguf", "ollama"]
GgufType = Literal["F32", "F16", "BF16", "Q8_0", "Q4_0"]

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
class Exported:
    """The folder of an export, its comparison with the source, and the command that runs it."""

    folder: Path
    parity: Parity
    command: str


def export_model(
    model: str,
    folder: str | Path,
    format: Format = "hf",
    *,
    gguf_type: GgufType = "F16",
    max_bytes: int | None = None,
    dtype: torch.dtype | None = None,
    origin: Origin | None = None,
) -> Exported:
    """Write MODEL into `folder` in `format`, read it back, compare it with the source, and write a model card.

    `dtype` is the type of safetensors; the default is that of the source, or bfloat16 if the source is a GGUF file or a
    GPTQ folder. `max_bytes` splits a GGUF file into parts; Ollama does not support parts (ConfigError).
    """
    if max_bytes is not None and format != "gguf":
        raise ConfigError(tr("only format gguf can be split into parts, not {format}", format=format))
    target, base = Path(folder), base_model(find_model(model))
    is_quantized = base.suffix == ".gguf" or is_gptq(base)
    working = torch.float32 if is_quantized else stored_dtype(base)
    source = load_model(model, dtype=working)
    device = next(source.model.parameters()).device
    expected = next_token_logprobs(source.model, source.tokenizer)
    merge_error = merge(source.model, probe_ids(source.tokenizer)) if any(adapted(source.model)) else None
    with atomic_folder(target) as inside:
        if format in ("gguf", "ollama"):
            written, command = _write_gguf(source, inside, target, gguf_type, format == "ollama", max_bytes)
        else:
            file_dtype = dtype or (torch.bfloat16 if is_quantized else working)
            written, command = _write_folder(source, inside, target, format, file_dtype)
        source.model.to("meta")  # frees its weights before the copy is loaded
        copy = _read_back(written, working, device)
        parity = compare(expected, next_token_logprobs(copy, source.tokenizer))
        label = f"GGUF {gguf_type}" if written.is_file() else format
        facts: dict[str, Any] = {"format": label, "command": command, "merge_error": merge_error}
        _write_text(inside / "README.md", model_card(source, origin or Origin(model), parity, **facts))
    return Exported(target, parity, command)


def _write_folder(
    source: LoadedModel, inside: Path, target: Path, format: Format, dtype: torch.dtype
) -> tuple[Path, str]:
    layout = "qwen" if format == "qwen-v1" else "qwen2"
    settings: dict[str, Any] = {"chat": source.chat, "generation": source.generation}
    write_folder(source.model, source.tokenizer, inside, layout=layout, dtype=dtype, **settings)
    serve = f"vllm serve {target} --served-model-name {source.name} --max-model-len {source.config.train_len}"
    return inside, f"qianwen chat {target}" if format == "qwen-v1" else serve


def _write_gguf(
    source: LoadedModel, inside: Path, target: Path, type: GgufType, for_ollama: bool, max_bytes: int | None
) -> tuple[Path, str]:
    file = inside / f"{source.name}-{type.lower()}.gguf"
    ends = end_ids(source.tokenizer, source.chat, source.generation)
    eod = source.tokenizer.special_tokens.get(END_OF_TEXT, ends[0])
    extra: dict[str, Any] = {
        "general.name": source.name,
        "tokenizer.ggml.eos_token_id": ends[0],
        "tokenizer.ggml.bos_token_id": eod,
        "tokenizer.ggml.padding_token_id": eod,
    }
    extra |= _template_metadata(source.tokenizer)
    file = write_model(source.model, source.tokenizer.vocabulary, file, type=type, extra=extra, max_bytes=max_bytes)
    if not for_ollama:
        return file, f"llama-cli -m {target / file.name}"
    context = min(source.config.train_len, OLLAMA_CONTEXT)
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
