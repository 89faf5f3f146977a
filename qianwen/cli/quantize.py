"""`qianwen quantize MODEL --to DIR`: fewer bits a weight, in the format of the published Int4 and Int8 models."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

if TYPE_CHECKING:
    from qianwen.checkpoints.load import OpenModel
    from qianwen.checkpoints.parity import Parity
    from qianwen.quantize.gptq_model import Texts

# What decides about codes: of no use where there are some.
OF_CODES = ("bits", "method", "group_size", "asymmetric", "act_order", "search", "passes", "damp_percent", "samples",
            "layout")  # fmt: skip
SHORT = 2  # texts drawn for one that is as long as it may be: many are shorter


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """Round MODEL's weights to 4 or 8 bits so that its answers change least, and say by how much they do.

    gptq looks at what the layers are given; --data says on which texts, and they should be like those the model is for,
    of every kind. Without it they are Python's own documentation and code, in English.
    """

    model: Annotated[str, tyro.conf.Positional]
    """A folder, GGUF file, run or hub name."""
    to: Path
    """The folder to write; it appears whole, replacing one of that name."""
    bits: Literal[4, 8] = 4
    method: Literal["gptq", "rtn"] = "gptq"
    """rtn rounds to the nearest: no data, seconds instead of minutes, and more is lost."""
    group_size: int = 128
    """Inputs that share a scale; -1: all of an output."""
    asymmetric: bool = False
    """A zero of its own for every group: a little better, and not for every engine's fast path."""
    act_order: bool = True
    """Round the inputs that matter most first."""
    search: bool = True
    """Cut off a group's largest weights where less is lost that way."""
    passes: int = 2
    """Over all codes and scales, once every input is rounded: less is lost, and it takes up to twice as long."""
    damp_percent: float = 0.1
    """Of the mean of the Hessian's diagonal, added to it. The released models: 0.01, and none of the three above."""
    data: tuple[Path, ...] = ()
    """Texts to calibrate on: dialogues in any form `qianwen sft` reads, documents in any that `qianwen data` reads."""
    samples: int = 128
    """Texts drawn from it, of every language and kind as many."""
    seq_len: int = 512
    """Tokens of a text that are read."""
    seed: int = 0
    """Of the draw."""
    tune: int = 0
    """Then let the scales learn for so many steps of 1,024 tokens to answer as MODEL does: 64 are enough. Both are in
    memory, MODEL in 16 bits."""
    codes: str = ""
    """What was quantised from MODEL before, a folder or hub name: codes, bits and layout stay, its scales are tuned."""
    layout: Literal["qwen2", "qwen-v1"] = "qwen2"
    license: str = ""
    """For the model card: the licence these weights are under."""


def quantize(argv: list[str]) -> int:
    """Quantise, then print what it cost and the command that runs the copy."""
    options = tyro.cli(QuantizeOptions, prog="qianwen quantize", args=argv)
    from qianwen.checkpoints.load import find_model, open_model
    from qianwen.quantize.tune_scales import check_tuning

    _check(options)
    opened, codes = open_model(options.model), find_model(options.codes) if options.codes else None
    if options.tune:
        check_tuning(opened, codes)  # before the hour that comes first
        parity = _tune(options, opened, codes)
    else:
        parity = _reduce(options, opened, options.to, _calibration(options, opened))
    console.print(tr("{folder}: {parity}", folder=options.to, parity=parity))
    console.print(tr("Run it: {command}", command=f"qianwen chat {options.to}"))
    return 0


def _check(options: QuantizeOptions) -> None:
    """Raise ConfigError for options that would be ignored."""
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


def _reduce(
    options: QuantizeOptions, opened: "OpenModel", to: Path, texts: "Texts", keep: Path | None = None
) -> "Parity":
    from qianwen.checkpoints.model_card import Origin
    from qianwen.quantize.gptq import GptqConfig
    from qianwen.quantize.gptq_model import quantize_model

    config = GptqConfig(
        bits=options.bits,
        group_size=options.group_size,
        sym=not options.asymmetric,
        damp_percent=options.damp_percent,
        act_order=options.act_order,
        search=options.search,
        passes=options.passes,
    )
    done = quantize_model(
        opened,
        to,
        config,
        texts,
        seq_len=options.seq_len,
        layout="qwen" if options.layout == "qwen-v1" else "qwen2",
        origin=Origin(options.model, options.license),
        keep=keep,
    )
    return done.parity


def _tune(options: QuantizeOptions, opened: "OpenModel", codes: Path | None) -> "Parity":
    """Tune the scales of `codes`, or of codes that are made first; stopped in either, the same command goes on."""
    from qianwen.checkpoints.model_card import Origin
    from qianwen.checkpoints.packed_cache import file_stats
    from qianwen.quantize.gptq_model import sources
    from qianwen.quantize.resume import texts_digest, work_folder
    from qianwen.quantize.tune_scales import CODES, ROW, told_tuning, tune_folder
    from qianwen.runtime.files import verify_folder

    calibration = [] if codes else _calibration(options, opened)
    texts = _texts(options, opened, options.tune * -(-ROW // options.seq_len) * SHORT, to_tune=True)
    made_of = sources(opened) | {
        "codes": {name: stats for name, *stats in file_stats(codes)} if codes else {},
        "options": {name: getattr(options, name) for name in (*OF_CODES, "seq_len", "tune")},
        "texts": texts_digest([*calibration, *texts]),
    }
    with work_folder(options.to, made_of, told_tuning) as keep:
        if not codes:
            codes = keep / CODES
            if not codes.exists():
                _reduce(options, opened, codes, calibration, keep)
            verify_folder(codes)
        size = {"seq_len": options.seq_len, "origin": Origin(options.model, options.license)}
        return tune_folder(opened, codes, options.to, texts, options.tune, keep=keep, **size).parity


def _calibration(options: QuantizeOptions, opened: "OpenModel") -> "Texts":
    """Texts for GPTQ; rounding needs none."""
    return [] if options.method == "rtn" else _texts(options, opened, options.samples)


def _texts(options: QuantizeOptions, opened: "OpenModel", samples: int, *, to_tune: bool = False) -> "Texts":
    from qianwen.cli.calibration_data import calibration_texts

    seed = options.seed + to_tune  # to tune on, others than GPTQ was calibrated on, where there are more
    size = {"samples": samples, "seq_len": options.seq_len, "seed": seed}
    return calibration_texts(options.data, opened.tokenizer, **size, to_tune=to_tune)
