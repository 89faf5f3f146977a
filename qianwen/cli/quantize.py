"""`qianwen quantize MODEL --to DIR`: 4 or 8 bits per weight, in the format of the published Int4 and Int8 models."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from qianwen.cli.arguments import parse
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

if TYPE_CHECKING:
    from qianwen.checkpoints.load import OpenModel
    from qianwen.checkpoints.parity import Parity
    from qianwen.quantize.gptq import GptqConfig
    from qianwen.quantize.gptq_model import Texts

# Options of the rounding: they have no effect when --codes gives the codes.
OF_CODES = ("bits", "method", "group_size", "asymmetric", "act_order", "search", "passes", "damp_percent", "samples",
            "layout")  # fmt: skip
NO_GAIN = 0.9  # a folder of more than this share of the present size is not worth making
SHORT = 2  # texts sampled per full sequence, as many texts are shorter than one


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """Round the weights of MODEL to 4 or 8 bits and report how much its outputs change.

    The method gptq measures the inputs of the layers on calibration texts. Give them with --data; they should be like
    the texts the model will be used for, of every kind. The default is Python's documentation and code, in English.
    """

    model: Annotated[str, tyro.conf.Positional]
    """The model: a folder, GGUF file, run name or hub id."""
    to: Path
    """Output folder. It is written atomically; an existing folder of that name is replaced."""
    bits: Literal[4, 8] = 4
    """Bits per weight."""
    method: Literal["gptq", "rtn"] = "gptq"
    """gptq, or rtn (round to nearest): no calibration data, seconds instead of minutes, larger error."""
    group_size: int = 128
    """Number of inputs that share one scale; -1: all inputs of an output."""
    asymmetric: bool = False
    """Store a zero point for every group: slightly smaller error, but not every engine has a fast kernel for it."""
    act_order: bool = True
    """Round the inputs with the largest activations first."""
    search: bool = True
    """Search each group's scale: clip its largest weights where this makes the error smaller."""
    passes: int = 2
    """Passes of coordinate descent over all codes and scales after the rounding: smaller error, up to twice the
    time."""
    damp_percent: float = 0.1
    """Damping: this fraction of the mean of the Hessian's diagonal is added to the diagonal. The released models used
    0.01, and none of the three options above."""
    data: tuple[Path, ...] = ()
    """Files of calibration texts: dialogues as `qianwen sft` reads them, or documents as `qianwen data` reads them."""
    samples: int = 128
    """Number of calibration texts, equally many of every language and kind."""
    seq_len: int = 512
    """Maximum tokens of a calibration text."""
    seed: int = 0
    """Random seed."""
    tune: int = 0
    """After rounding, fine-tune the scales for N steps of 1,024 tokens to match MODEL; 64 are enough, 0: no tuning.
    Both models are in memory, MODEL with 16 bits."""
    codes: str = ""
    """Folder or hub id of a quantised MODEL. Its codes, bits and layout are kept and only its scales are tuned."""
    layout: Literal["qwen2", "qwen-v1"] = "qwen2"
    """Names of the tensors: qwen2 (transformers, vLLM) or those of the first release."""
    license: str = ""
    """Licence of the weights, for the model card."""


def quantize(argv: list[str]) -> int:
    """Quantise, then print the difference and the command that runs the copy."""
    options = parse(QuantizeOptions, "qianwen quantize", argv)
    from qianwen.checkpoints.load import find_model, open_model
    from qianwen.quantize.tune_scales import check_tuning

    _check(options)
    opened, codes = open_model(options.model), find_model(options.codes) if options.codes else None
    if options.tune:
        check_tuning(opened, codes)  # fail now, not after an hour of rounding
    if not codes:
        _print_sizes(options, opened)
    if options.tune:
        parity = _tune(options, opened, codes)
    else:
        parity = _reduce(options, opened, options.to, _calibration(options, opened))
    console.print(tr("{folder}: {parity}", folder=options.to, parity=parity))
    console.print(tr("Run it: {command}", command=f"qianwen chat {options.to}"))
    return 0


def _check(options: QuantizeOptions) -> None:
    """Raise ConfigError for options that would have no effect."""
    if options.tune < 0:
        raise ConfigError(tr("tune = {value} must be at least 0", value=options.tune))
    if not options.codes:
        return
    if not options.tune:
        message = "--codes keeps the codes of an existing folder; add --tune STEPS to tune its scales"
        raise ConfigError(tr(message))
    for field in dataclasses.fields(options):
        if field.name in OF_CODES and getattr(options, field.name) != field.default:
            name = field.name.replace("_", "-")
            raise ConfigError(
                tr(
                    "--{name} applies to new codes, but --codes keeps the existing ones; use only one of them",
                    name=name,
                )
            )


def _config(options: QuantizeOptions) -> "GptqConfig":
    from qianwen.quantize.gptq import GptqConfig

    return GptqConfig(
        bits=options.bits,
        group_size=options.group_size,
        sym=not options.asymmetric,
        damp_percent=options.damp_percent,
        act_order=options.act_order,
        search=options.search,
        passes=options.passes,
    )


def _reduce(
    options: QuantizeOptions, opened: "OpenModel", to: Path, texts: "Texts", keep: Path | None = None
) -> "Parity":
    from qianwen.checkpoints.model_card import Origin
    from qianwen.quantize.gptq_model import quantize_model

    done = quantize_model(
        opened,
        to,
        _config(options),
        texts,
        seq_len=options.seq_len,
        layout="qwen" if options.layout == "qwen-v1" else "qwen2",
        origin=Origin(options.model, options.license),
        keep=keep,
    )
    return done.parity


def _print_sizes(options: QuantizeOptions, opened: "OpenModel") -> None:
    """The size of the folder to write beside that of the model, and a warning if it gains nothing."""
    from qianwen.quantize.gptq_model import check_source
    from qianwen.quantize.sizes import folder_sizes

    check_source(opened)
    size = folder_sizes(opened, _config(options), "qwen" if options.layout == "qwen-v1" else "qwen2")
    gigabytes = {"before": size.before / 1e9, "after": size.after / 1e9}
    message = "{name}: {before:.3f} GB now ({bits:.1f} bits per weight); the folder will take about {after:.3f} GB"
    console.print(tr(message, name=opened.name, bits=size.bits_before, **gigabytes))
    if size.after > NO_GAIN * size.before:
        message = (
            "This makes the model hardly smaller or even larger, and rounding it again costs accuracy: such a folder "
            "keeps embedding and head in 16 bits. Every command here takes the model as it is."
        )
        console.print(tr(message), style="yellow")


def _tune(options: QuantizeOptions, opened: "OpenModel", codes: Path | None) -> "Parity":
    """Tune the scales of `codes`, or round MODEL first. If either is interrupted, the same command continues."""
    from qianwen.checkpoints.model_card import Origin
    from qianwen.checkpoints.packed_cache import file_stats
    from qianwen.quantize.gptq_model import sources
    from qianwen.quantize.resume import texts_digest, work_folder
    from qianwen.quantize.tune_scales import CODES, ROW, tune_folder, tuning_done
    from qianwen.runtime.files import verify_folder

    calibration = [] if codes else _calibration(options, opened)
    texts = _texts(options, opened, options.tune * -(-ROW // options.seq_len) * SHORT, to_tune=True)
    made_of = sources(opened) | {
        "codes": {name: stats for name, *stats in file_stats(codes)} if codes else {},
        "options": {name: getattr(options, name) for name in (*OF_CODES, "seq_len", "tune")},
        "texts": texts_digest([*calibration, *texts]),
    }
    with work_folder(options.to, made_of, tuning_done) as keep:
        if not codes:
            codes = keep / CODES
            if not codes.exists():
                _reduce(options, opened, codes, calibration, keep)
            verify_folder(codes)
        size = {"seq_len": options.seq_len, "origin": Origin(options.model, options.license)}
        return tune_folder(opened, codes, options.to, texts, options.tune, keep=keep, **size).parity


def _calibration(options: QuantizeOptions, opened: "OpenModel") -> "Texts":
    """Calibration texts for GPTQ; round-to-nearest needs none."""
    return [] if options.method == "rtn" else _texts(options, opened, options.samples)


def _texts(options: QuantizeOptions, opened: "OpenModel", samples: int, *, to_tune: bool = False) -> "Texts":
    from qianwen.cli.calibration_data import calibration_texts

    seed = options.seed + to_tune  # tune on other texts than GPTQ was calibrated on, if there are enough
    size = {"samples": samples, "seq_len": options.seq_len, "seed": seed}
    return calibration_texts(options.data, opened.tokenizer, **size, to_tune=to_tune)
