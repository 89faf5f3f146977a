"""Supervised fine-tuning: the pretraining loop on dialogues, with a loss over the assistant's text only (report, 3.1).

    dialogues → ChatML ids and mask → packed sequences → the loop → chat model folder → does it end its answers?

The mask says which tokens have a label: the assistant's text and the end token after it. Without labels on the end
token a model never stops; with labels on the questions it learns to ask them. So data in which no token has a label, or
all tokens, or no end token, is refused before the first step. After the last step the model answers a few questions
(`closing_questions.py`).

    full     trains every weight; the run ends in a model folder
    lora     trains a low-rank adapter beside the frozen weights (`lora.py`); the run ends in the adapter's folder
    qlora    the same over weights of four bits: NF4 (`model/linears/nf4.py`) or the codes of a GPTQ folder

Not here: mixing several files.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from qianwen.align.before_after import answer_after, answer_before, comparison
from qianwen.align.closing_questions import ended_answers
from qianwen.align.dialogues import Dialogue, PackedDialogues, read_dialogues, rendered
from qianwen.chat.render import ChatFormat, Mask
from qianwen.checkpoints.adapter_folder import write_adapter
from qianwen.checkpoints.hf_folder import write_folder, write_settings
from qianwen.checkpoints.load import weights_name
from qianwen.checkpoints.parity import write_record
from qianwen.model.linears.lora import LoraConfig, attach
from qianwen.model.serving import serving
from qianwen.model.transformer import Qwen
from qianwen.runtime.device import best_device, compute_dtype, return_free_memory, seed_everything
from qianwen.runtime.errors import ConfigError, QianwenError
from qianwen.runtime.files import atomic_folder, sha256_file
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.train.hooks import log_every, measure_every
from qianwen.train.job import Job, train
from qianwen.train.loop import Batch, LoopConfig
from qianwen.train.optim import AdamW, AdamWConfig
from qianwen.train.parallel import ParallelConfig, parallelize
from qianwen.train.pretrain import Measure, next_token_loss
from qianwen.train.state import TrainState

Method = Literal["full", "lora", "qlora"]


@dataclass(frozen=True, kw_only=True)
class SFTConfig:
    """Configuration of a fine-tuning run. Defaults are those of the released finetune.py where it has the option."""

    name: str  # name of the run folder inside the folder of runs
    model: str  # model to fine-tune: folder, GGUF file, run name or hub id
    data: str  # file of training dialogues
    method: Method = "full"  # full: all weights; lora: an adapter; qlora: an adapter of a 4-bit model
    lora: LoraConfig = field(default_factory=LoraConfig)  # adapter settings for lora and qlora
    mask: Mask = "clean"  # which tokens have a label: see chat/render.py
    seq_len: int = 2048  # tokens per packed sequence; longer dialogues are truncated
    epochs: float = 5.0  # passes over the dialogues; only if loop.steps is 0
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=0, sequences_per_step=16, micro_batch_size=1, lr=1e-5)
    )
    optim: AdamWConfig = field(default_factory=AdamWConfig)
    checkpoint_activations: bool = False  # recompute layers in the backward pass: a third more work, far less memory
    seed: int = 0  # random seed of the sequence order, the initial adapter and dropout
    log_steps: int = 10  # steps between two lines of metrics
    save_steps: int = 200  # steps between two checkpoints
    keep_checkpoints: int = 2  # number of newest checkpoints to keep


def sft(
    config: SFTConfig,
    model: Qwen,
    tokenizer: Tokenizer,
    *,
    generation: Mapping[str, Any] | None = None,
    evaluate: Measure | None = None,
) -> Path:
    """Start or continue the run `config` and return the folder of the chat model or adapter.

    Changes `model`: for an adapter its linears are wrapped and frozen. `generation` are the fields of
    `generation_config.json`. `evaluate(model)` is called at every checkpoint; its results are added to the metrics.
    Raises DataError for dialogues without any label. On Ctrl-C or SIGTERM, saves a checkpoint and raises
    KeyboardInterrupt.
    """
    with Job.start(config.name, "sft", config) as job:
        base = "" if config.method == "full" else weights_name(config.model)  # an error belongs before the first step
        dialogues = _tune(config, model, tokenizer, job, evaluate)
        with atomic_folder(job.path / "model") as target:
            if config.method == "full":
                write_folder(model, tokenizer, target, chat=True, generation=generation)
            else:
                write_adapter(model, target, config.lora, base)
                write_record(model, tokenizer, target)
                write_settings(model.config, tokenizer, target, chat=True, generation=generation)
        return_free_memory()
        _check_ends(model.eval(), tokenizer, dialogues, job)
        _compare(model, tokenizer, dialogues, job)
        return job.path / "model"


def _tune(config: SFTConfig, model: Qwen, tokenizer: Tokenizer, job: Job, evaluate: Measure | None) -> list[Dialogue]:
    """Train `model`; returns the dialogues of the data."""
    dialogues = list(read_dialogues(config.data))
    answer_before(model, tokenizer, dialogues, job.path)  # first, because it may draw random numbers
    seed_everything(config.seed)
    batches, loop = _packed(config, dialogues, tokenizer, model.config.max_position_embeddings)
    device = best_device()
    if config.method != "full":
        _adapt(config, model, compute_dtype(device))
    if config.checkpoint_activations:
        parallelize(model, model.model.layers, ParallelConfig(checkpoint_activations=True), compute_dtype(device))
    state = TrainState(model.to(device), AdamW(model, config.optim, compute_dtype=compute_dtype(device)))
    facts = {"model": config.model, "data": sha256_file(config.data)}
    checkpoints = job.resume(state, loop.steps, keep=config.keep_checkpoints, facts=facts)
    hooks = [
        *([measure_every(config.save_steps, loop.steps, evaluate)] if evaluate else []),
        log_every(config.log_steps, loop.steps, job.metrics_log(state)),
    ]

    def batch(cursor: int) -> Batch:
        return batches.batch(cursor, loop.micro_batch_size)

    train(next_token_loss, batch, loop, state, hooks, checkpoints, config.save_steps)
    return dialogues


def _adapt(config: SFTConfig, model: Qwen, dtype: torch.dtype) -> None:
    """Add adapters to the linears. Frozen weights are converted to `dtype`, in which the adapters compute too."""
    if config.method == "qlora" and isinstance(model.get_submodule("model.layers.0.mlp.up_proj"), nn.Linear):
        raise ConfigError(tr("Q-LoRA needs a 4-bit base model: load it with bits='nf4', or use the method lora"))
    if not isinstance(model.lm_head, nn.Linear):
        _unpack_head(model, dtype)
    attach(model, config.lora, seed=config.seed)
    for weight in model.parameters():
        if not weight.requires_grad:
            weight.data = weight.data.to(dtype)
    counts = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    trained, frozen = (sum(size for size, learns in counts if learns == wanted) for wanted in (True, False))
    message = "LoRA rank {rank}: {trained:,} weights are trained, {frozen:,} are frozen"
    console.print(tr(message, rank=config.lora.rank, trained=trained, frozen=frozen))


def _compare(model: Qwen, tokenizer: Tokenizer, dialogues: list[Dialogue], job: Job) -> None:
    """Print a few answers before and after. The model is written already, so no error here fails the run."""
    try:
        rows = answer_after(model, tokenizer, dialogues, job.path)
    except (QianwenError, RuntimeError, MemoryError) as error:
        message = "the model is complete, but its answers could not be compared: {error}"
        console.print(tr(message, error=error), style="yellow", markup=False)
    else:
        if rows:
            console.print(comparison(rows))


def _unpack_head(model: Qwen, dtype: torch.dtype) -> None:
    """A quantised head as floats, in place: the loss multiplies by its weight (`model/loss.py`)."""
    coded: Any = model.lm_head
    head = nn.Linear(coded.in_features, coded.out_features, bias=False, device="meta")
    head.weight = nn.Parameter(coded.dequantize().to(dtype), requires_grad=False)
    model.lm_head = head
    console.print(tr("the quantised head is trained with as floats: {size:.2f} GB", size=head.weight.nbytes / 1e9))


def _check_ends(model: Qwen, tokenizer: Tokenizer, dialogues: list[Dialogue], job: Job) -> None:
    """Report how many answers the model ends. It is written already, so no error of this check fails the run."""
    try:
        with serving(model):
            ended = ended_answers(model, tokenizer, dialogues)
    except (QianwenError, RuntimeError, MemoryError) as error:
        message = "the model is complete, but the check whether it ends its answers failed: {error}"
        console.print(tr(message, error=error), style="yellow", markup=False)
        job.record(answers_that_end=str(error))
        return
    if ended.num_too_long:
        message = (
            "questions left out of the check: {count:,} (longer than the context of {size:,} tokens with their answer)"
        )
        console.print(tr(message, count=ended.num_too_long, size=model.config.max_position_embeddings), style="yellow")
    message = "{stopped} of {asked} answer{asked:plural} ended with the end token (the others reached the length limit)"
    style = None if ended.num_ended == ended.num_answers else "yellow"
    console.print(tr(message, stopped=ended.num_ended, asked=ended.num_answers), style=style)
    job.record(answers_that_end=f"{ended.num_ended}/{ended.num_answers}")


def _packed(
    config: SFTConfig, dialogues: list[Dialogue], tokenizer: Tokenizer, max_len: int
) -> tuple[PackedDialogues, LoopConfig]:
    """The sequences of the run, and its loop with the number of steps filled in."""
    if config.seq_len > max_len:
        message = tr(
            "seq_len = {size} is more than the {most} tokens the model reads", size=config.seq_len, most=max_len
        )
        raise ConfigError(message)
    if num_excluded := sum(len(dialogue.excluded) for dialogue in dialogues):
        message = "answers without a label: {count:,} (empty, or excluded by `weight`, `train` or `loss`)"
        console.print(tr(message, count=num_excluded), style="yellow")
    learned = rendered(dialogues, tokenizer, config.mask, config.seq_len)
    batches = PackedDialogues(learned, config.seq_len, _pad_id(tokenizer), seed=config.seed)
    steps = config.loop.steps or math.ceil(config.epochs * len(batches) / config.loop.sequences_per_step)
    message = tr(
        "{dialogues:,} dialogue{dialogues:plural} packed into {sequences:,} sequence{sequences:plural}; "
        "{learned:,} of {tokens:,} tokens have a label; {steps:,} step{steps:plural}",
        dialogues=len(learned),
        learned=sum(sum(each.loss_mask) for each in learned),
        tokens=sum(len(each.ids) for each in learned),
        sequences=len(batches),
        steps=steps,
    )
    console.print(message)
    return batches, dataclasses.replace(config.loop, steps=steps)


def _pad_id(tokenizer: Tokenizer) -> int:
    """The token that fills sequences up; it has no label, so any would do."""
    return tokenizer.special_tokens.get("<|endoftext|>", next(iter(ChatFormat(tokenizer).end_ids), 0))
