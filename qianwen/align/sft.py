"""Supervised fine-tuning: the pretraining loop on dialogues, learning only what the assistant says (report, 3.1).

    dialogues → ChatML ids and mask → packed sequences → the loop → chat model folder → does it stop?

The mask decides what a model becomes. Answers alone teach answering; without the end token it would never stop; with
the questions it would learn to ask. So a file in which nothing, everything, or never an end is learned is refused
before the first step, and after the last one the model is asked a few questions and must end its answers itself.

    full     every weight is trained; the run ends in a model folder
    lora     a low-rank adapter is trained beside the frozen weights (`lora.py`); the run ends in its folder
    qlora    the same over weights of four bits: NF4 (`model/linears/nf4.py`) or a GPTQ checkpoint's own

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

from qianwen.align.dialogues import Dialogue, PackedDialogues, read_dialogues, rendered
from qianwen.chat.chatml import Mask, render
from qianwen.checkpoints.adapter_folder import write_adapter
from qianwen.checkpoints.hf_folder import write_folder, write_settings
from qianwen.checkpoints.parity import write_record
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.sampling_params import SamplingParams
from qianwen.model.linears.lora import LoraConfig, attach
from qianwen.model.serving import serving
from qianwen.model.transformer import Qwen
from qianwen.runtime.device import best_device, compute_dtype, return_free_memory, seed_everything
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import atomic_folder, runs_dir, sha256_file
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
NUM_ASKED = 8  # questions put to the finished model


@dataclass(frozen=True, kw_only=True)
class SFTConfig:
    """Configuration of a fine-tuning run. Defaults are those of the released finetune.py where it has the option."""

    name: str  # name of the run folder inside the folder of runs
    model: str  # model to fine-tune: folder, GGUF file, run name or hub id
    data: str  # file of training dialogues
    method: Method = "full"  # full: all weights; lora: an adapter; qlora: an adapter of a 4-bit model
    lora: LoraConfig = field(default_factory=LoraConfig)  # adapter settings for lora and qlora
    mask: Mask = "clean"  # which tokens have a label: see chat/chatml.py
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
        _tune(config, model, tokenizer, job, evaluate)
        with atomic_folder(job.path / "model") as target:
            _write(config, model, tokenizer, target, generation)
        return_free_memory()
        _check_stops(config, model.eval(), tokenizer, job)
        return job.path / "model"


def _write(
    config: SFTConfig, model: Qwen, tokenizer: Tokenizer, target: Path, generation: Mapping[str, Any] | None
) -> None:
    if config.method == "full":
        write_folder(model, tokenizer, target, chat=True, generation=generation)
        return
    here = (Path(config.model), runs_dir() / config.model)
    base = next((str(path.resolve()) for path in here if path.exists()), config.model)
    write_adapter(model, target, config.lora, base)
    write_record(model, tokenizer, target)
    write_settings(model.config, tokenizer, target, chat=True, generation=generation)


def _tune(config: SFTConfig, model: Qwen, tokenizer: Tokenizer, job: Job, evaluate: Measure | None) -> None:
    seed_everything(config.seed)
    batches, loop = _packed(config, tokenizer, model.config.max_position_embeddings)
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


def _adapt(config: SFTConfig, model: Qwen, dtype: torch.dtype) -> None:
    """Add adapters to the linears. Frozen weights are converted to `dtype`, in which the adapters compute too."""
    if config.method == "qlora" and isinstance(model.get_submodule("model.layers.0.mlp.up_proj"), nn.Linear):
        raise ConfigError(tr("Q-LoRA needs a 4-bit base model: load it with bits='nf4', or use the method lora"))
    attach(model, config.lora, seed=config.seed)
    for weight in model.parameters():
        if not weight.requires_grad:
            weight.data = weight.data.to(dtype)
    counts = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    trained, frozen = (sum(size for size, learns in counts if learns == wanted) for wanted in (True, False))
    message = "LoRA rank {rank}: {trained:,} weights are trained, {frozen:,} are frozen"
    console.print(tr(message, rank=config.lora.rank, trained=trained, frozen=frozen))


def _check_stops(config: SFTConfig, model: Qwen, tokenizer: Tokenizer, job: Job) -> None:
    with serving(model):
        stopped, asked = stops(model, tokenizer, list(read_dialogues(config.data)))
    style = None if stopped == asked else "yellow"
    console.print(
        tr(
            "{stopped} of {asked} answers ended with the end token (the others reached the length limit)",
            stopped=stopped,
            asked=asked,
        ),
        style=style,
    )
    job.record(answers_that_end=f"{stopped}/{asked}")


def _packed(config: SFTConfig, tokenizer: Tokenizer, max_len: int) -> tuple[PackedDialogues, LoopConfig]:
    """The sequences of the run, and its loop with the number of steps filled in."""
    if config.seq_len > max_len:
        message = tr(
            "seq_len = {size} is more than the {most} tokens the model reads", size=config.seq_len, most=max_len
        )
        raise ConfigError(message)
    learned = rendered(list(read_dialogues(config.data)), tokenizer, config.mask, config.seq_len)
    batches = PackedDialogues(learned, config.seq_len, tokenizer.eod_id, seed=config.seed)
    steps = config.loop.steps or math.ceil(config.epochs * len(batches) / config.loop.sequences_per_step)
    message = tr(
        "{dialogues:,} dialogues packed into {sequences:,} sequences; "
        "{learned:,} of {tokens:,} tokens have a label; {steps:,} steps",
        dialogues=len(learned),
        learned=sum(sum(one.loss_mask) for one in learned),
        tokens=sum(len(one.ids) for one in learned),
        sequences=len(batches),
        steps=steps,
    )
    console.print(message)
    return batches, dataclasses.replace(config.loop, steps=steps)


def stops(model: Qwen, tokenizer: Tokenizer, dialogues: list[Dialogue]) -> tuple[int, int]:
    """How many of a few questions the model answers to an end, given room for thrice the answer it learned."""
    firsts = [dialogue.messages[: _first_answer(dialogue) + 1] for dialogue in dialogues]
    firsts = sorted(firsts, key=lambda messages: len(messages[-1].text))[:NUM_ASKED]
    prompts = [render(messages[:-1], tokenizer, add_generation_prompt=True).ids for messages in firsts]
    room = [3 * len(tokenizer.encode(messages[-1].text)) + 16 for messages in firsts]
    params = [SamplingParams(temperature=0.0, max_tokens=tokens) for tokens in room]
    whole = [len(ids) + tokens for ids, tokens in zip(prompts, room, strict=True)]
    # A cache for these answers and no more: a run that trained in little memory must not need much at its end.
    size = EngineConfig.block_size
    config = EngineConfig(max_num_seqs=NUM_ASKED, num_blocks=sum(-(-tokens // size) + 1 for tokens in whole))
    answers = LLM(model, tokenizer, config).generate(prompts, params)
    return sum(answer.outputs[0].finish_reason == "stop" for answer in answers), len(answers)


def _first_answer(dialogue: Dialogue) -> int:
    return next(i for i, message in enumerate(dialogue.messages) if message.role == "assistant")
