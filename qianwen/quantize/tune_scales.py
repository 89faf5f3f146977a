"""Tune the scales of a quantised model towards what its source says (EfficientQAT, Chen et al. 2024).

GPTQ looks at one linear at a time, and each leaves an error that those behind it never hear of. Here the whole network
is looked at: texts go through source and copy, and the scales of the copy (`model/linears/tuned.py`) follow the
gradient of the KL divergence between what the two say of every token, which asks for no labels. Codes stay, so the
folder has the same layout, size and speed as before.

Both models are in memory, the source in 16 bits. Checkpoints of the scales lie in a folder beside the one to come, with
the codes where those are new, so that what was stopped goes on (`quantize/resume.py`).
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
from qianwen.quantize.resume import told_layers
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

ROW = 1024  # tokens of a step
LR = 1e-3  # of a factor; four times as much spoils the scales (docs/log.md)
WARMUP = 0.1  # of all steps
SHOWN = 8  # steps between two lines, and between two checkpoints
CODES = "codes"  # a folder in `keep`: what was quantised first
# What a model and its copy have in common.
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
    """Tune the GPTQ folder `folder` towards its source, `opened`, and write it to `target`, which appears whole.

    `texts` are token ids, of each at most `seq_len` are read. Checkpoints lie in `keep`; a later call with the same
    arguments goes on from them. Raises what `check_tuning` raises, DataError for texts without a token,
    KeyboardInterrupt when asked to stop.
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
    """Raise ConfigError where `folder` is not what GPTQ makes of this model, or where memory does not reach."""
    if folder is not None:
        if not is_gptq(folder):
            raise ConfigError(tr("{folder} is not a GPTQ folder", folder=folder))
        theirs = open_model(str(folder)).config
        if any(getattr(theirs, name) != getattr(opened.config, name) for name in SHAPE):
            raise ConfigError(
                tr("{folder} was not made from {model}: their shapes differ", folder=folder, model=opened.name)
            )
    device = best_device()
    need, free = needed_bytes(opened.config, compute_dtype(device).itemsize), free_memory_bytes(device)
    if need > free:
        message = "tuning the scales needs about {need:.1f} GB, but {free:.1f} GB is free; run without --tune"
        raise ConfigError(tr(message, need=need / 1e9, free=free / 1e9))


def needed_bytes(config: QwenConfig, itemsize: int = 2) -> float:
    """Memory of tuning: that of Q-LoRA over the codes without recomputing, and the source beside it."""
    beside = weight_bytes(config, 8 * itemsize, 8 * itemsize)
    return memory(config, "qlora", ROW, recompute=False, itemsize=itemsize).total + beside


def tune(model: Qwen, teacher: Qwen, rows: Sequence[tuple[Tensor, Tensor]], steps: int, keep: Path) -> None:
    """Train `model`, made by `unfreeze_scales`, on rows of ids and positions [1, T] to step `steps`.

    Goes on from the newest checkpoint in `keep`, and leaves one there every few steps and when it is stopped, which
    raises KeyboardInterrupt.
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
            wanted = teacher(ids, positions)
        return chunked_divergence(model(ids, positions), wanted, teacher.lm_head.weight), ids.numel(), {}

    train(loss, batch, loop, state, [_shown(steps, state.step)], checkpoints, SHOWN)


def told_tuning(folder: Path) -> str:
    """What a call that was stopped left in `keep`, in words."""
    if steps := Checkpoints(folder).steps():
        return tr("{steps} steps of tuning", steps=steps[0])
    return tr("the codes of all layers") if (folder / CODES).exists() else told_layers(folder)


def _shown(steps: int, first: int) -> Hook:
    """A line every few steps: the mean divergence since the one before, and how long it will take."""
    began, losses = time.monotonic(), []

    def hook(state: TrainState, metrics: Metrics) -> None:
        losses.append(metrics["loss"])
        if state.step % SHOWN and state.step not in (1, steps):
            return
        left = (time.monotonic() - began) / (state.step - first) * (steps - state.step)
        line = {"KL": sum(losses) / len(losses), tr("minutes remaining"): round(left / 60, 1)}
        console.print(metrics_line({tr("tuning step"): state.step, **line}))
        losses.clear()

    return hook
