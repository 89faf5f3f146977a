"""`qianwen export MODEL --to DIR`: write a model for transformers and vLLM, Qwen v1's code, llama.cpp or Ollama."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from qianwen.runtime.log import console
from qianwen.runtime.translation import tr


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Write MODEL in the format of other programs, then read it back and report the difference."""

    model: Annotated[str, tyro.conf.Positional]
    """The model: a folder, GGUF file, run name or hub id."""
    to: Path
    """Output folder. It is written atomically; an existing folder of that name is replaced."""
    format: Literal["hf", "qwen-v1", "gguf", "ollama"] = "hf"
    """hf: transformers, vLLM. qwen-v1: the first release's layout. gguf: llama.cpp. ollama: GGUF and Modelfile."""
    type: Literal["F32", "F16", "BF16", "Q8_0", "Q4_0"] = "F16"
    """Number format of a GGUF file."""
    part_gb: float | None = None
    """Split a GGUF file into parts of at most N GB, as llama.cpp reads them; by default one file."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Number format of safetensors; by default that of MODEL."""
    license: str = ""
    """Licence of the weights, for the model card."""
    data: str = ""
    """Training data of the model, for the model card."""


def export(argv: list[str]) -> int:
    """Export, then print the result of the check and the command that runs the copy."""
    options = tyro.cli(ExportOptions, prog="qianwen export", args=argv)
    import torch

    from qianwen.checkpoints.export import export_model
    from qianwen.checkpoints.model_card import Origin

    done = export_model(
        options.model,
        options.to,
        options.format,
        gguf_type=options.type,
        max_bytes=int(options.part_gb * 1e9) if options.part_gb else None,
        dtype=getattr(torch, options.dtype) if options.dtype else None,
        origin=Origin(options.model, options.license, options.data),
    )
    console.print(tr("{folder}: {parity}", folder=done.folder, parity=done.parity))
    console.print(tr("Run it: {command}", command=done.command))
    return 0
