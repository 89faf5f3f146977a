"""`qianwen export MODEL --to DIR`: a model for transformers and vLLM, Qwen v1's own code, llama.cpp or Ollama."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from qianwen.runtime.log import console
from qianwen.runtime.translation import tr


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Write MODEL for other programs, read it back, and say how close it is."""

    model: Annotated[str, tyro.conf.Positional]
    """A folder, GGUF file, run or hub name."""
    to: Path
    """The folder to write; it appears whole, replacing one of that name."""
    format: Literal["hf", "qwen-v1", "gguf", "ollama"] = "hf"
    """hf: transformers, vLLM. qwen-v1: the first release's layout. gguf: llama.cpp. ollama: GGUF and Modelfile."""
    type: Literal["F32", "F16", "BF16", "Q8_0", "Q4_0"] = "F16"
    """Number format in a GGUF file."""
    part_gb: float | None = None
    """Write a GGUF file in parts with at most so many GB of weights, as llama.cpp reads them."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Number format in safetensors; that of MODEL if left out."""
    license: str = ""
    """For the model card: the licence these weights are under."""
    data: str = ""
    """For the model card: what the model was trained on."""


def export(argv: list[str]) -> int:
    """Export, then print the check's result and the command that runs the copy."""
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
