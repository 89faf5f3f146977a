"""`qianwen export MODEL --to DIR`: write a model for transformers and vLLM, Qwen v1's code, llama.cpp or Ollama."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from qianwen.cli.arguments import parse
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

if TYPE_CHECKING:
    from qianwen.checkpoints.export import Choose, GgufOptions
    from qianwen.checkpoints.gguf.tensor_types import GgufType, Rounding
    from qianwen.checkpoints.load import LoadedModel

SEQ_LEN = 128  # maximum tokens of a calibration text


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Write MODEL in the format of other programs, then read it back and report the difference.

    GGUF types of four bits are rounded by the inputs that the layers really have, on calibration texts. Give them with
    --data; they should be like the texts the model will be used for. The default is Python's documentation and code.
    """

    model: Annotated[str, tyro.conf.Positional]
    """The model: a folder, GGUF file, run name or hub id."""
    to: Path
    """Output folder. It is written atomically; an existing folder of that name is replaced."""
    format: Literal["hf", "qwen-v1", "gguf", "ollama"] = "hf"
    """hf: transformers, vLLM. qwen-v1: the first release's layout. gguf: llama.cpp. ollama: GGUF and Modelfile."""
    type: Literal["F32", "F16", "BF16", "Q8_0", "Q4_K_M", "Q4_0"] = "F16"
    """Number format of a GGUF file. Q8_0 is nearly exact; Q4_K_M is the usual one of four to five bits."""
    data: tuple[Path, ...] = ()
    """Files of calibration texts for Q4_K_M and Q4_0: dialogues as `qianwen sft` reads them, or documents."""
    samples: int = 32
    """Number of calibration texts; 0: do not calibrate, all inputs of a layer count the same."""
    min_agreement: float = 0.7
    """Refuse a copy whose most likely next token is that of MODEL after less than this share of 64 prompts; 0: write
    any copy."""
    part_gb: float | None = None
    """Split a GGUF file into parts of at most N GB, as llama.cpp reads them; by default one file."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Number format of safetensors; by default that of MODEL."""
    license: str = ""
    """Licence of the weights, for the model card."""
    trained_on: str = ""
    """Training data of the model, for the model card."""


def export(argv: list[str]) -> int:
    """Export, then print the result of the check and the command that runs the copy."""
    options = parse(ExportOptions, "qianwen export", argv)
    import torch

    from qianwen.checkpoints.export import export_model
    from qianwen.checkpoints.model_card import Origin

    done = export_model(
        options.model,
        options.to,
        options.format,
        gguf=_gguf(options),
        min_agreement=options.min_agreement,
        dtype=getattr(torch, options.dtype) if options.dtype else None,
        origin=Origin(options.model, options.license, options.trained_on),
    )
    console.print(tr("{folder}: {parity}", folder=done.folder, parity=done.parity))
    size = {"size": done.num_bytes / 1e9, "bits": done.bits_per_weight}
    console.print(tr("{size:.3f} GB, {bits:.1f} bits per weight", **size))
    console.print(tr("Run it: {command}", command=done.command))
    if done.own_methods:
        message = "Other programs ignore {names} of this model; README.md says up to which length they may be used."
        console.print(tr(message, names=", ".join(done.own_methods)), style="yellow")
    return 0


def _gguf(options: ExportOptions) -> "GgufOptions":
    from qianwen.checkpoints.export import GgufOptions
    from qianwen.checkpoints.gguf.tensor_types import ROUNDED

    is_rounded = options.format in ("gguf", "ollama") and options.type in ROUNDED
    if options.data and not (is_rounded and options.samples):
        message = "--data gives calibration texts for the GGUF types {types}; remove it, or choose one of them"
        raise ConfigError(tr(message, types=", ".join(ROUNDED)))
    max_bytes = int(options.part_gb * 1e9) if options.part_gb else None
    return GgufOptions(options.type, max_bytes, calibrated(options.data, options.samples))


def calibrated(data: tuple[Path, ...], samples: int) -> "Choose":
    """How to round a model on `samples` texts of the files `data`, or of Python's documentation."""
    from qianwen.cli.calibration_data import calibration_texts
    from qianwen.quantize.gguf_rounding import choose_rounding

    def choose(loaded: "LoadedModel", type: "GgufType") -> "Rounding":
        texts = calibration_texts(data, loaded.tokenizer, samples=samples, seq_len=SEQ_LEN) if samples else []
        return choose_rounding(loaded.model, type, texts, SEQ_LEN)

    return choose
