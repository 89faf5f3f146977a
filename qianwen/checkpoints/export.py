"""The one writer of models for others: a folder, a GGUF or an Ollama file, with a card that says what was checked.

    hf        config, safetensors, tokenizer and chat template under Hugging Face's class; vLLM and SGLang read it
    qwen-v1   the layout of the first Qwen release: fused c_attn, w1 and w2, qwen.tiktoken
    gguf      one file for llama.cpp, or several no larger than asked for
    ollama    the same with a Modelfile

Every export is read back and compared with its source (`parity.py`); the card and the caller learn what came out.
Source and copy are never in memory together, and the folder appears whole or not at all. An adapter is merged into its
base on the way, and the copy compared with the two apart.
Not here: quantising to formats of our own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from qianwen.checkpoints.gguf.network import GgufModel, write_model
from qianwen.checkpoints.gptq_folder import is_gptq
from qianwen.checkpoints.hf_folder import END_OF_TEXT, chat_template, end_ids, write_folder
from qianwen.checkpoints.hf_weights import load_weights, stored_dtype
from qianwen.checkpoints.load import LoadedModel, base_model, find_model, load_model
from qianwen.checkpoints.model_card import Origin, model_card
from qianwen.checkpoints.parity import Parity, compare, next_token_logprobs, probe_ids
from qianwen.model.linears.lora import adapted, merge
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import atomic_file, atomic_folder
from qianwen.runtime.translation import tr

Format = Literal["hf", "qwen-v1", "gguf", "ollama"]
GgufType = Literal["F32", "F16", "BF16", "Q8_0", "Q4_0"]

OLLAMA_CONTEXT = 8192  # tokens; Ollama sets the memory for all of them aside
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
    """Where an export is, how true it is, and the command that runs it."""

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
    """Write MODEL into `folder` in `format`, read it back, compare, and leave a model card.

    Safetensors keep the number format they come in unless `dtype` says otherwise; those of a GGUF file
    or a GPTQ folder become bfloat16. `max_bytes` splits a GGUF file into parts; Ollama reads none (ConfigError).
    """
    if max_bytes is not None and format != "gguf":
        raise ConfigError(tr("only gguf is written in parts, not {format}", format=format))
    target, found = Path(folder), base_model(find_model(model))
    has_few_bits = found.suffix == ".gguf" or is_gptq(found)
    working = torch.float32 if has_few_bits else stored_dtype(found)
    source = load_model(model, dtype=working)
    device = next(source.model.parameters()).device
    expected = next_token_logprobs(source.model, source.tokenizer)
    moved = merge(source.model, probe_ids(source.tokenizer)) if any(adapted(source.model)) else None
    with atomic_folder(target) as inside:
        if format in ("gguf", "ollama"):
            written, command = _write_gguf(source, inside, target, gguf_type, format == "ollama", max_bytes)
        else:
            kept = dtype or (torch.bfloat16 if has_few_bits else working)
            written, command = _write_folder(source, inside, target, format, kept)
        source.model.to("meta")  # its weights go before those of the copy come
        copy = _read_back(written, working, device)
        parity = compare(expected, next_token_logprobs(copy, source.tokenizer))
        shown = f"GGUF {gguf_type}" if written.is_file() else format
        card = model_card(source, origin or Origin(model), parity, format=shown, command=command, merge_error=moved)
        _write_text(inside / "README.md", card)
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
    if template := chat_template(source.tokenizer):
        extra["tokenizer.chat_template"] = template
    file = write_model(source.model, source.tokenizer.vocabulary, file, type=type, extra=extra, max_bytes=max_bytes)
    if not for_ollama:
        return file, f"llama-cli -m {target / file.name}"
    context = min(source.config.train_len, OLLAMA_CONTEXT)
    _write_text(inside / "Modelfile", MODELFILE.format(file=file.name, context=context))
    return file, f"ollama create {source.name.lower()} -f {target / 'Modelfile'}"


def _read_back(written: Path, dtype: torch.dtype, device: torch.device) -> Qwen:
    if written.is_file():
        return GgufModel(written).load(dtype=dtype, device=device)
    return load_weights(written, dtype=dtype, device=device)


def _write_text(path: Path, text: str) -> None:
    with atomic_file(path, "w") as file:
        file.write(text)
