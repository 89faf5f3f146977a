"""Sizes and training of `memo_long_context.py`. Every run is resumable and has its folder in `runs`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from memo_texts import Plan, held_out_sample, open_tokenizer
from safetensors.torch import load_file

from qianwen.checkpoints.load import load_model
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.runtime.device import best_device, compute_dtype
from qianwen.runtime.files import runs_dir
from qianwen.train.extend import ExtendConfig, extend
from qianwen.train.loop import LoopConfig
from qianwen.train.pretrain import PretrainConfig, pretrain

NUM_CHECKPOINTS = 12  # of the long run
PACKED_SHARE = 0.1  # of the sequences: short documents, and both ends of the long ones
NEW_BASE = 200_000.0  # rotary base of the extension


@dataclass(frozen=True, kw_only=True)
class Setup:
    """All sizes of the experiment, except those of the texts."""

    plan: Plan
    model: QwenConfig
    sequences_per_step: int
    tokens: int  # of a seed
    long_tokens: int  # of the run whose checkpoints are measured
    extension_tokens: int

    @property
    def lengths(self) -> tuple[int, ...]:
        """0.5×, 1×, 2×, … of the trained length."""
        shortest = self.plan.train_len // 2
        return tuple(shortest << doubling for doubling in range((self.plan.longest // shortest).bit_length()))

    def sizes(self) -> dict[str, Any]:
        """What every stage of one folder must have in common."""
        shape = [self.model.hidden_size, self.model.intermediate_size, self.model.num_hidden_layers]
        plan = {name: value for name, value in asdict(self.plan).items() if name != "corpus"}
        amounts = [self.sequences_per_step, self.tokens, self.long_tokens, self.extension_tokens]
        return plan | {"shape": shape, "amounts": amounts}


def setup(corpus: str, *, is_quick: bool) -> Setup:
    """The experiment, or the same in miniature.

    The shape was chosen by speed alone, on a loaded machine; losses were not compared. 8 × 256 reads 6 % fewer tokens
    per second than 6 × 256. A vocabulary of 8,192 costs 33 % of the speed, for 14 % fewer tokens of the same text.
    """
    if is_quick:
        plan = Plan(
            corpus=corpus, vocab_size=512, train_len=64, extended_len=256, longest=1024, min_characters=8000,
            num_latex=2, num_other=4,
        )  # fmt: skip
        shape = _shape(plan, hidden_size=64, intermediate_size=128, num_hidden_layers=3)
        sizes = {"tokens": 64_000, "long_tokens": 96_000, "extension_tokens": 16_384}
    else:
        plan = Plan(
            corpus=corpus, vocab_size=4096, train_len=512, extended_len=4096, longest=8192, min_characters=40_000,
            num_latex=10, num_other=30,
        )  # fmt: skip
        shape = _shape(plan, hidden_size=256, intermediate_size=704, num_hidden_layers=8)
        sizes = {"tokens": 20_000_000, "long_tokens": 60_000_000, "extension_tokens": 10_000_000}
    return Setup(plan=plan, model=shape, sequences_per_step=8, **sizes)


def _shape(plan: Plan, hidden_size: int, intermediate_size: int, num_hidden_layers: int) -> QwenConfig:
    return QwenConfig(
        vocab_size=plan.vocab_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=hidden_size // 64,
        max_position_embeddings=plan.train_len,
        tie_word_embeddings=True,
    )


def train(folder: Path, setup: Setup, name: str, seed: int, *, tokens: int = 0, logn: bool = False) -> Path:
    """The model `name`, trained on so many tokens (0: those of a seed). With more tokens its checkpoints stay."""
    if (done := model_folder(name)).exists():
        return done
    steps = (tokens or setup.tokens) // (setup.sequences_per_step * setup.plan.train_len)
    config = PretrainConfig(
        name=name,
        data=str(folder / "tokens"),
        vocabulary=str(folder / "vocabulary"),
        model=replace(setup.model, use_logn_attn=logn, logn_in_training=logn),
        seq_len=setup.plan.train_len,
        packed_share=PACKED_SHARE,
        loop=_loop(setup, steps, setup.sequences_per_step, lr=3e-3),
        seed=seed,
        log_steps=50,
        eval_steps=steps,
        save_steps=max(1, steps // NUM_CHECKPOINTS) if tokens else 100,
        keep_checkpoints=NUM_CHECKPOINTS + 1 if tokens else 2,
    )
    return pretrain(config, open_tokenizer(folder))


def train_longer(folder: Path, setup: Setup, name: str, start: Path, base: float) -> Path:
    """The model `start` extended to the new length with a rotary base."""
    if (done := model_folder(name)).exists():
        return done
    sequences = max(1, setup.sequences_per_step * setup.plan.train_len // setup.plan.extended_len)
    steps = setup.extension_tokens // (sequences * setup.plan.extended_len)
    config = PretrainConfig(
        name=name,
        data=str(folder / "long_tokens"),
        vocabulary=str(folder / "vocabulary"),
        model=setup.model,
        start_from=str(start),
        seq_len=setup.plan.extended_len,
        packed_share=PACKED_SHARE,
        loop=_loop(setup, steps, sequences, lr=1e-3),
        log_steps=50,
        eval_steps=steps,
        save_steps=100,
        held_out=(str(held_out_sample(folder)),),
    )
    loaded = load_model(str(start), dtype=torch.float32)
    return extend(ExtendConfig(pretrain=config, rope_theta=base), loaded.model, loaded.tokenizer)


def _loop(setup: Setup, steps: int, sequences: int, *, lr: float) -> LoopConfig:
    return LoopConfig(
        steps=steps, sequences_per_step=sequences, micro_batch_size=sequences, lr=lr, warmup_steps=min(200, steps // 10)
    )


def model_folder(name: str) -> Path:
    """Where a finished run has its model; it appears as a whole."""
    return runs_dir() / name / "model"


def open_network(path: Path) -> Qwen:
    """A finished model in the precision that it was trained in."""
    return load_model(str(path), dtype=compute_dtype(best_device())).model


def networks_of(name: str, shape: QwenConfig) -> Iterator[tuple[int, Qwen]]:
    """The step and the network of each checkpoint of a run, the first step first."""
    for folder in sorted((runs_dir() / name / "checkpoints").glob("step-*")):
        saved = load_file(folder / "state.safetensors")
        model = Qwen(shape)
        weights = {key.removeprefix("weights/"): value for key, value in saved.items() if key.startswith("weights/")}
        model.load_state_dict(weights, strict=False)
        model.tie_weights()
        yield int(folder.name.removeprefix("step-")), model.to(compute_dtype(best_device())).eval()
