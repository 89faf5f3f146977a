"""Pretraining: the loop on packed documents, from random or given weights (Qwen report, section 2.4).

    run folder → token files → model, optimizer, state → newest checkpoint, if any → loop → checkpoint → model folder

The configuration identifies a run: the same call continues it, and a changed configuration is refused. After every
interruption (Ctrl-C, SIGTERM, a kill, a full disk) the run continues from a checkpoint with bit-identical results.

A model that is trained further forgets part of what it knew. This is measured: a table compares the loss on each
held-out text before the first step and after the last.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qianwen.checkpoints.hf_folder import write_folder
from qianwen.data.tokens.cuts import CutDataset
from qianwen.data.tokens.mixture import MixedDataset, is_tokens, open_tokens
from qianwen.data.tokens.pack import PackedDataset, tokenized, tokenized_documents, write_tokens
from qianwen.model.config import QwenConfig
from qianwen.model.loss import chunked_cross_entropy
from qianwen.model.transformer import Qwen, set_dropout
from qianwen.runtime.device import best_device, compute_dtype, num_threads, seed_everything
from qianwen.runtime.distributed import barrier, is_main, rank, world_size
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import atomic_folder
from qianwen.runtime.log import console, progress
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.train.held_out import HeldOut, forgetting
from qianwen.train.hooks import log_every, measure_every, measured_peak
from qianwen.train.job import Job, train
from qianwen.train.loop import Batch, Hook, LoopConfig
from qianwen.train.optim import AdamW, AdamWConfig
from qianwen.train.parallel import ParallelConfig, gathered, join_processes, parallelize
from qianwen.train.state import TrainState

Measure = Callable[[Any], Mapping[str, float | str]]


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Configuration of a pretraining run. Recipes set the fields; the command line can change any of them."""

    name: str  # name of the run folder inside the folder of runs
    data: str  # training data: token files, or texts in any format that `data/documents/readers.py` reads
    vocabulary: str = "qwen"  # folder or file of the tokenizer; `qwen`: Qwen's released vocabulary
    model: QwenConfig  # shape of the network
    start_from: str = ""  # model to continue (`--from`) instead of random initial weights
    seq_len: int  # tokens per training sequence
    packed_share: float = 1.0  # share of the sequences packed from documents; the others are each cut from one long one
    loop: LoopConfig
    optim: AdamWConfig = field(default_factory=AdamWConfig)
    dropout: float = 0.0  # share of the values that each residual branch drops in training
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    seed: int = 0  # random seed of the initial weights, the document order and dropout
    log_steps: int = 10  # steps between two lines of metrics
    eval_steps: int = 500  # steps between two measurements on held-out texts
    save_steps: int = 500  # steps between two checkpoints
    keep_checkpoints: int = 2  # number of newest checkpoints to keep
    held_out: tuple[str, ...] = ()  # held-out texts; the loss on them is measured every eval_steps steps

    @property
    def tokens_per_step(self) -> int:
        return self.loop.sequences_per_step * self.seq_len


def pretrain(
    config: PretrainConfig,
    tokenizer: Tokenizer,
    *,
    model: Qwen | None = None,
    evaluate: Measure | None = None,
    sample: Measure | None = None,
) -> Path:
    """Start or continue the run `config` and return the folder of the finished model.

    If `model` is given, its weights are trained further. `evaluate` and `sample` are called every `eval_steps` steps;
    their results are added to the metrics. On Ctrl-C or SIGTERM, saves a checkpoint and raises KeyboardInterrupt.
    """
    device = best_device()
    join_processes(device)
    with Job.start(config.name, "pretrain", config) as job, num_threads(starting_threads(job)):
        seed_everything(config.seed + rank())
        model = (model or Qwen(config.model).init_weights(config.seed)).to(device)
        dataset = token_files(config, tokenizer, job.path)
        texts = {Path(text).stem: tokenized(text, tokenizer.encode_batch) for text in config.held_out}
        held_out = HeldOut(texts, dataset.eod_id, config.seq_len)
        if config.start_from:
            record_losses_before(job, held_out.losses, model)
        measures = [held_out.losses, *(measure for measure in (evaluate, sample) if measure)]
        train_on_tokens(config, dataset, job, model, measures)
        print_forgetting(job, held_out.losses, model)
        return write_model(model, tokenizer, job.path / "model")


def train_on_tokens(
    config: PretrainConfig, dataset: PackedDataset | MixedDataset, job: Job, model: Qwen, measures: Sequence[Measure]
) -> None:
    """Train `model`, or continue from the newest checkpoint of the run, to the last step."""
    device, last = next(model.parameters()).device, config.loop.steps
    dtype = compute_dtype(device)
    set_dropout(model, config.dropout)
    parallelize(model, model.model.layers, config.parallel, dtype)
    state = TrainState(model, AdamW(model, config.optim, compute_dtype=dtype if world_size() == 1 else None))
    checkpoints = job.resume(state, last, keep=config.keep_checkpoints, facts={"tokens": dataset.fingerprint})
    speed = {
        "flops_per_token": flops_per_token(model, config.seq_len),
        "peak_flops": measured_peak(device, dtype) * world_size(),
    }
    hooks: list[Hook] = [
        *(measure_every(config.eval_steps, last, measure) for measure in measures),
        log_every(config.log_steps, last, job.metrics_log(state), **speed),
    ]
    train(next_token_loss, _batches(dataset, config), config.loop, state, hooks, checkpoints, config.save_steps)


def record_losses_before(job: Job, measure: Measure, model: Qwen) -> None:
    """Record the losses of the model that training starts from, once for the run."""
    if "losses_before" not in job.folder.record:
        job.record(losses_before=measure(model.eval()))


def print_forgetting(job: Job, measure: Measure, model: Qwen) -> None:
    """Record the losses of the trained model, and print them beside those that were recorded before."""
    if before := job.folder.record.get("losses_before"):
        job.record(losses_after=measure(model.eval()))
        _say(forgetting(before, job.folder.record["losses_after"]))


def next_token_loss(model: Qwen, batch: Batch) -> tuple[Tensor, Tensor, dict[str, float]]:
    """The loop's loss for packed tokens: `input_ids`, `positions`, `labels` [B, T]."""
    hidden = model(batch["input_ids"], positions=batch["positions"])
    return *chunked_cross_entropy(hidden, model.lm_head.weight, batch["labels"]), {}


def flops_per_token(model: Qwen, seq_len: int) -> float:
    """Floating-point operations to train on one token: 6 per weight of a matrix product, and causal attention.

    Each weight needs a multiplication and an addition, once forward and twice backward. The same holds for each key and
    value that a query attends to: on average `seq_len` / 2, if every sequence is one document.
    """
    config = model.config
    weights = sum(weight.numel() for weight in model.parameters() if weight.ndim == 2)
    if not config.tie_word_embeddings:
        weights -= model.model.embed_tokens.weight.numel()  # looked up, not multiplied
    attention = config.num_hidden_layers * config.num_attention_heads * config.head_dim * seq_len
    return 6.0 * (weights + attention)


def token_files(config: PretrainConfig, tokenizer: Tokenizer, folder: Path) -> PackedDataset | MixedDataset:
    """The token files or mixture of the configuration, or its texts tokenised once into the run folder."""
    source = Path(config.data)
    if not is_tokens(source):
        texts, source = source, folder / "tokens"
        if is_main() and not is_tokens(source):
            documents = progress(tokenized_documents(texts, tokenizer.encode_arrays), None, tr("tokenising"))
            write_tokens(documents, source, tokenizer.eod_id)
        barrier()
    arrangement: dict[str, Any] = {"seed": config.seed, "packed_share": config.packed_share}
    dataset = open_tokens(source, config.seq_len, verify=is_main(), **arrangement)
    if dataset.max_id >= config.model.vocab_size:
        message = tr(
            "{data} contains token {id}, but the model has {size} tokens; it was probably made with another vocabulary",
            data=source,
            id=dataset.max_id,
            size=config.model.vocab_size,
        )
        raise ConfigError(message)
    for part in dataset.parts if isinstance(dataset, MixedDataset) else [dataset]:
        if isinstance(part, CutDataset):
            _say(part.summary())
    wanted = config.loop.steps * config.tokens_per_step
    message = tr(
        "{documents:,} documents, {tokens:,} tokens; the run trains on {wanted:,} tokens ({epochs:.3g} epochs)",
        documents=dataset.num_documents,
        tokens=dataset.num_tokens,
        wanted=wanted,
        epochs=wanted / dataset.epoch_tokens,
    )
    _say(message)
    return dataset


def _batches(dataset: PackedDataset | MixedDataset, config: PretrainConfig) -> Callable[[int], Batch]:
    return lambda cursor: dataset.batch(cursor, config.loop.micro_batch_size)


def starting_threads(job: Job) -> int:
    """The number of threads at the start of the run: another number rounds sums differently and changes the results."""
    now = torch.get_num_threads()
    began = job.folder.record.get("threads", now)
    if "threads" not in job.folder.record:
        job.record(threads=now)
    elif began != now and "OMP_NUM_THREADS" in os.environ:
        _say(
            tr(
                "this run began with {began} threads, but OMP_NUM_THREADS differs: results will not be bit-identical",
                began=began,
            )
        )
        return now
    elif began != now:
        _say(tr("using {began} thread{began:plural}, as at the start of this run", began=began))
    return began


def write_model(model: Qwen, tokenizer: Tokenizer, target: Path, card: str = "") -> Path:
    """Write the folder of the trained model; `card` is the text of its README.md, if it has one."""
    model = gathered(model)
    if is_main():
        with atomic_folder(target) as folder:
            write_folder(model, tokenizer, folder, chat=False)
            if card:
                (folder / "README.md").write_text(card, encoding="utf-8")
    barrier()
    return target


def _say(message: str) -> None:
    if is_main():
        console.print(message)
