"""Supervised fine-tuning: the pretraining loop on dialogues, with a loss over the assistant's text only (report, 3.1).

    dialogues → ChatML ids and mask → packed sequences → the loop → chat model folder → does it end its answers?

The mask says which tokens have a label: the assistant's text and the end token after it. Without labels on the end
token a model never stops; with labels on the questions it learns to ask them. So data in which no token has a label, or
all tokens, or no end token, is refused before the first step. After the last step the model answers a few questions
(`closing_questions.py`).

    full     trains every weight; the run ends in a model folder
    lora     trains a low-rank adapter beside the frozen weights (`lora.py`); the run ends in the adapter's folder
    qlora    the same over weights of four bits: NF4 (`model/linears/nf4.py`) or the codes of a GPTQ folder

Several files are mixed by weight (`training_files.py`). Before the first step the run counts what its dialogues teach
(`abilities.py`). With `torchrun` several processes train all weights of one model, each on other sequences.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qianwen.align.before_after import answer_after, answer_before, comparison
from qianwen.align.closing_questions import ended_answers
from qianwen.align.held_out_dialogues import HeldOutDialogues
from qianwen.align.records import Dialogue
from qianwen.align.sft_config import SFTConfig as SFTConfig
from qianwen.align.training_data import pad_id, training_data
from qianwen.checkpoints.adapter_folder import write_adapter
from qianwen.checkpoints.hf_folder import write_folder, write_settings
from qianwen.checkpoints.load import weights_name
from qianwen.checkpoints.parity import write_record
from qianwen.model.linears.lora import attach
from qianwen.model.serving import serving
from qianwen.model.transformer import Qwen, set_dropout
from qianwen.runtime.device import best_device, compute_dtype, num_threads, return_free_memory, seed_everything
from qianwen.runtime.distributed import barrier, is_main, rank, world_size
from qianwen.runtime.errors import ConfigError, QianwenError
from qianwen.runtime.files import atomic_folder
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.train.hooks import log_every, measure_every
from qianwen.train.job import Job, train
from qianwen.train.loop import Batch
from qianwen.train.optim import AdamW
from qianwen.train.parallel import ParallelConfig, gathered, join_processes, parallelize
from qianwen.train.pretrain import (
    Measure,
    next_token_loss,
    print_forgetting,
    record_losses_before,
    starting_threads,
)
from qianwen.train.state import TrainState


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
    join_processes(best_device())
    console.quiet = not is_main()  # every process reads the data, and one of them prints
    with Job.start(config.name, "sft", config) as job, num_threads(starting_threads(job)):
        base = "" if config.method == "full" else weights_name(config.model)  # an error belongs before the first step
        dialogues = _tune(config, model, tokenizer, job, evaluate)
        model = gathered(model)
        if is_main():
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
        barrier()
        return job.path / "model"


def _tune(config: SFTConfig, model: Qwen, tokenizer: Tokenizer, job: Job, evaluate: Measure | None) -> list[Dialogue]:
    """Train `model`; returns the dialogues of the data."""
    device, dtype = best_device(), compute_dtype(best_device())
    _check_processes(config)
    data = training_data(config, tokenizer, model.config.max_position_embeddings)
    job.record(abilities=data.abilities)
    if is_main():
        answer_before(model, tokenizer, data.dialogues, job.path)  # first, because it may draw random numbers
    seed_everything(config.seed + rank())
    set_dropout(model, config.dropout)
    if config.method != "full":
        _adapt(config, model, dtype)
    parallel = ParallelConfig(shards=config.shards, checkpoint_activations=config.checkpoint_activations)
    parallelize(model.to(device), model.model.layers, parallel, dtype)
    state = TrainState(model, AdamW(model, config.optim, compute_dtype=dtype if world_size() == 1 else None))
    facts = {"model": config.model, "data": data.fingerprint}
    checkpoints = job.resume(state, data.loop.steps, keep=config.keep_checkpoints, facts=facts)
    held_out = HeldOutDialogues(config.held_out, tokenizer, config.mask, config.seq_len, pad_id(tokenizer))
    if config.held_out:
        record_losses_before(job, held_out.losses, model)
    measures = [*([held_out.losses] if config.held_out else []), *([evaluate] if evaluate else [])]
    hooks = [
        *(measure_every(config.save_steps, data.loop.steps, measure) for measure in measures),
        log_every(config.log_steps, data.loop.steps, job.metrics_log(state)),
    ]

    def batch(cursor: int) -> Batch:
        return data.batches.batch(cursor, data.loop.micro_batch_size)

    train(next_token_loss, batch, data.loop, state, hooks, checkpoints, config.save_steps)
    set_dropout(model, 0.0)
    print_forgetting(job, held_out.losses, model)
    return data.dialogues


def _check_processes(config: SFTConfig) -> None:
    if world_size() > 1 and config.method != "full":
        message = "several processes train all weights: use --method full, or one process for {method}"
        raise ConfigError(tr(message, method=config.method))


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
