"""Tune the scales of a quantised model to match its source model (EfficientQAT, Chen et al. 2024).

GPTQ minimises the error of one linear at a time, and ignores how the errors add up in later layers. Here the source and
the quantised model both compute the same texts, and the scales (`model/linears/tuned.py`) follow the gradient of the KL
divergence between the two next-token distributions, so no labels are needed. Codes do not change, so layout, size and
speed stay the same.

Both models are in memory, the source with 16 bits. Checkpoints of the scales, and new codes, are saved beside the
output folder, so that the same command continues after an interruption (`quantize/resume.py`).
"""

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from qianwen.checkpoints.gptq_folder import gptq_model, is_gptq, read_format, write_scales
from qianwen.checkpoints.load import OpenModel, load_model, open_model
from qianwen.checkpoints.model_card import Origin
from qianwen.checkpoints.parity import compare, next_token_logprobs
from qianwen.model.config import QwenConfig
from qianwen.model.linears.tuned import freeze_scales, unfreeze_scales
from qianwen.model.loss import chunked_divergence
from qianwen.model.transformer import Qwen
from qianwen.quantize.calibration import packed_rows
from qianwen.quantize.gptq_model import Reduced, write_card
from qianwen.quantize.resume import layers_done
from qianwen.runtime.device import best_device, compute_dtype, free_memory_bytes
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.files import atomic_folder
from qianwen.runtime.log import console, metrics_line
from qianwen.runtime.translation import tr
from qianwen.train.checkpoint import Checkpoints
from qianwen.train.job import train
from qianwen.train.loop import Batch, Hook, LoopConfig, Metrics
from qianwen.train.optim import AdamW, AdamWConfig
from qianwen.train.plan import memory, weight_bytes
from qianwen.train.state import TrainState

ROW = 1024  # tokens per step
LR = 1e-3  # learning rate of the factors; four times as much makes the scales worse (docs/log.md)
WARMUP = 0.1  # fraction of all steps
LOG_STEPS = 8  # steps between two log lines, and between two checkpoints
CODES = "codes"  # folder in `keep` with the codes, if they were made in the same run
# Fields of the configuration that must be equal in a model and its quantised copy.
SHAPE = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
         "num_key_value_heads")  # fmt: skip


def tune_folder(
    opened: OpenModel,
    folder: Path,
    target: Path,
    texts: Sequence[Sequence[int]],
    steps: int,
    *,
    seq_len: int = 512,
    keep: Path,
    origin: Origin | None = None,
) -> Reduced:
    """Tune the GPTQ folder `folder` to match its source, `opened`, and write it atomically to `target`.

    `texts` are token ids; at most `seq_len` of each are used. Checkpoints are saved in `keep`; the same call continues
    from them. Raises the errors of `check_tuning`, DataError for texts without a token, KeyboardInterrupt on Ctrl-C.
    """
    check_tuning(opened, folder)
    rows = [row for row in packed_rows([text[:seq_len] for text in texts], ROW) if row[0].numel()]
    if not rows:
        raise DataError(tr("the calibration texts are empty"))
    device = best_device()
    dtype = compute_dtype(device)
    teacher = load_model(opened.path, dtype=dtype, device=device)
    model = unfreeze_scales(gptq_model(folder, dtype=dtype, device=device))
    tune(model, teacher.model, rows, steps, keep)
    freeze_scales(model.eval())
    parity = compare(*(next_token_logprobs(each, opened.tokenizer) for each in (teacher.model, model)))
    with atomic_folder(target) as inside:
        write_scales(model, folder, inside)
        format = f"tuned GPTQ Int{read_format(folder).bits}"
        write_card(opened, inside, origin or Origin(opened.name), parity, target, format=format)
    return Reduced(target, parity)


def check_tuning(opened: OpenModel, folder: Path | None = None) -> None:
    """Raise ConfigError if `folder` is not a GPTQ folder of this model, or if there is not enough free memory."""
    if folder is not None:
        if not is_gptq(folder):
            raise ConfigError(tr("{folder} is not a GPTQ folder", folder=folder))
        quantised = open_model(str(folder)).config
        if any(getattr(quantised, name) != getattr(opened.config, name) for name in SHAPE):
            raise ConfigError(
                tr("{folder} was not made from {model}: their shapes differ", folder=folder, model=opened.name)
            )
    device = best_device()
    need, free = needed_bytes(opened.config, compute_dtype(device).itemsize), free_memory_bytes(device)
    if need > free:
        message = "tuning the scales needs about {need:.1f} GB, but {free:.1f} GB is free; run without --tune"
        raise ConfigError(tr(message, need=need / 1e9, free=free / 1e9))


def needed_bytes(config: QwenConfig, itemsize: int = 2) -> float:
    """Memory of tuning: Q-LoRA on the codes without recomputation, plus the weights of the source."""
    source = weight_bytes(config, 8 * itemsize, 8 * itemsize)
    return memory(config, "qlora", ROW, recompute=False, itemsize=itemsize).total + source


def tune(model: Qwen, teacher: Qwen, rows: Sequence[tuple[Tensor, Tensor]], steps: int, keep: Path) -> None:
    """Train `model`, made by `unfreeze_scales`, on rows of ids and positions [1, T] to step `steps`.

    Continues from the newest checkpoint in `keep`, and saves one every LOG_STEPS steps and when it is interrupted,
    which raises KeyboardInterrupt.
    """
    loop = LoopConfig(steps=steps, sequences_per_step=1, micro_batch_size=1, lr=LR, warmup_steps=round(WARMUP * steps))
    state = TrainState(model, AdamW(model, AdamWConfig(weight_decay=0.0)))
    checkpoints = Checkpoints(keep, keep=1, facts={"steps": steps})
    checkpoints.load_newest(state)

    def batch(cursor: int) -> Batch:
        ids, positions = rows[cursor % len(rows)]
        return {"input_ids": ids, "positions": positions}

    def loss(model: Qwen, batch: Batch) -> tuple[Tensor, int, dict[str, float]]:
        ids, positions = batch["input_ids"], batch["positions"]
        with torch.no_grad():
            target = teacher(ids, positions)
        return chunked_divergence(model(ids, positions), target, teacher.lm_head.weight), ids.numel(), {}

    train(loss, batch, loop, state, [_log_divergence(steps, state.step)], checkpoints, LOG_STEPS)


def tuning_done(folder: Path) -> str:
    """The saved progress in `folder`, in words; empty if there is none."""
    if steps := Checkpoints(folder).steps():
        return tr("{steps} step{steps:plural} of tuning", steps=steps[0])
    return tr("the codes of all layers") if (folder / CODES).exists() else layers_done(folder)


def _log_divergence(steps: int, first: int) -> Hook:
    """Log the mean divergence since the last line, and the remaining minutes, every LOG_STEPS steps."""
    began, losses = time.monotonic(), []

    def hook(state: TrainState, metrics: Metrics) -> None:
        losses.append(metrics["loss"])
        if state.step % LOG_STEPS and state.step not in (1, steps):
            return
        left = (time.monotonic() - began) / (state.step - first) * (steps - state.step)
        line = {"KL": sum(losses) / len(losses), tr("minutes remaining"): round(left / 60, 1)}
        console.print(metrics_line({tr("tuning step"): state.step, **line}))
        losses.clear()

    return hook
