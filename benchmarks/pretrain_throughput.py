"""Pretraining speed beside transformers' Trainer, on the same shapes and the same tokens in one process.

    python benchmarks/pretrain_throughput.py [--shapes 20m,100m] [--seq-len 512] [--batch 8] [--quick]

Both take the same packed sequences, batch and clipping. The Trainer runs as it comes: its Qwen2, its fused AdamW, its
loader and its batch of 8, in float32 (its default) and with `bf16=True`. We run our loop as the recipes of real sizes
do: in the type this machine multiplies fastest, layers compiled (`parallel.compile`; `--eager 1`: not), with our
document mask, which the Trainer's packed sequences do without: it lets documents see each other. A step's time is from
the end of one optimizer step to the end of the next; first steps are not counted. The share of peak compares the useful
products with the best of eight large matrix products, measured beside each pair.
"""

from __future__ import annotations

import functools
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pairs import Pairs, Report, alternate, arguments
from torch.utils.data import Dataset

from qianwen.checkpoints.hf_config import config_to_hf
from qianwen.data.tokens.pack import PackedDataset, write_tokens
from qianwen.model import PRESETS, Qwen
from qianwen.model.config import QwenConfig
from qianwen.runtime.device import best_device, compute_dtype
from qianwen.train.hooks import measured_peak
from qianwen.train.loop import LoopConfig, run
from qianwen.train.optim import AdamW, AdamWConfig
from qianwen.train.parallel import ParallelConfig, parallelize
from qianwen.train.pretrain import flops_per_token, next_token_loss
from qianwen.train.state import TrainState

DOCUMENT_TOKENS = (30, 1200)  # shortest and longest, log-uniform: most are short, as on the web


def documents(vocab_size: int, count: int = 2000) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(0)
    shortest, longest = np.log(DOCUMENT_TOKENS)
    for length in np.exp(generator.uniform(shortest, longest, count)).astype(int):
        yield generator.integers(0, vocab_size - 1, length)


class Ours:
    """Our loop, one step at a time, on one model."""

    def __init__(self, shape: QwenConfig, data: PackedDataset, batch: int, is_compiled: bool) -> None:
        self.device = best_device()
        dtype = compute_dtype(self.device)
        model = Qwen(shape).init_weights(0).to(self.device)
        parallelize(model, model.model.layers, ParallelConfig(compile=is_compiled), dtype)
        self.state = TrainState(model, AdamW(model, AdamWConfig(), compute_dtype=dtype))
        self.data, self.batch, self.tokens = data, batch, batch * data.seq_len
        self.speed(4)

    def speed(self, steps: int) -> float:
        """Tokens/s over `steps` more steps."""
        config = LoopConfig(
            steps=self.state.step + steps, sequences_per_step=self.batch, micro_batch_size=self.batch, lr=1e-4
        )
        began = time.perf_counter()
        batches = functools.partial(self.data.batch, micro_batch_size=self.batch)
        run(self.state.model, next_token_loss, batches, config, self.state)
        return steps * self.tokens / (time.perf_counter() - began)


class Blocks(Dataset):
    """The packed sequences as a Trainer takes them: labels are the inputs, which its model shifts."""

    def __init__(self, data: PackedDataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = self.data.batch(index, 1)["input_ids"][0]
        return {"input_ids": ids, "labels": ids}


class Theirs:
    """transformers' Trainer with its defaults, `bf16` or not."""

    def __init__(self, shape: QwenConfig, data: PackedDataset, batch: int, bf16: bool) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config_to_hf(shape, "qwen2")))
        self.blocks, self.bf16, self.batch, self.tokens = Blocks(data), bf16, batch, batch * data.seq_len

    def speed(self, steps: int) -> float:
        """Tokens/s over `steps` steps after a first one."""
        from transformers import Trainer, TrainerCallback, TrainingArguments

        ends = []

        class Clock(TrainerCallback):
            def on_step_end(self, *args: Any, **kwargs: Any) -> None:
                ends.append(time.perf_counter())

        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options = TrainingArguments(
                output_dir=folder,
                max_steps=steps + 1,
                per_device_train_batch_size=self.batch,
                bf16=self.bf16,
                use_cpu=not torch.cuda.is_available(),
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
            )
            trainer = Trainer(model=self.model, args=options, train_dataset=self.blocks, callbacks=[Clock()])
            trainer.log = lambda *args, **kwargs: None
            trainer.train()
        return steps * self.tokens / (ends[-1] - ends[0])


def measure(name: str, options: Any, report: Report) -> dict[str, Pairs]:
    """Pairs for one shape, against each of the Trainer's types."""
    shape = PRESETS[name]
    with tempfile.TemporaryDirectory() as folder:
        write_tokens(documents(shape.vocab_size), Path(folder) / "tokens", shape.vocab_size - 1)
        data = PackedDataset(Path(folder) / "tokens", options.seq_len)
        ours = Ours(shape, data, options.batch, not options.eager)
        peaks: dict[torch.dtype, list[float]] = {compute_dtype(ours.device): [], torch.bfloat16: []}

        def our_speed() -> float:
            for dtype, found in peaks.items():
                found.append(measured_peak(ours.device, dtype))
            return ours.speed(options.steps)

        pairs = {}
        for kind in options.peers.split(","):
            peer = Theirs(shape, data, options.batch, kind == "bf16")
            pairs[kind] = alternate(our_speed, functools.partial(peer.speed, options.steps), options.pairs)
            report.add(f"{name}, Trainer {kind}", pairs[kind])
    assert isinstance(ours.state.model, Qwen)
    flops = flops_per_token(ours.state.model, options.seq_len)
    speed = statistics.median([speed for pair in pairs.values() for speed in pair.ours])
    for dtype, found in peaks.items():
        peak = statistics.median(found)
        kind = str(dtype).removeprefix("torch.")
        share = f"{speed * flops / peak:.3f} of {peak / 1e9:,.0f} GFLOP/s"
        report.note(f"{name}, share of the {kind} peak", share)
    return pairs


def main() -> None:
    options = arguments(__doc__, shapes="20m,100m", peers="fp32,bf16", seq_len=512, batch=8, steps=2, eager=0)
    if options.quick:
        options.shapes, options.pairs, options.batch, options.steps = "20m", 1, 2, 1
    kind = str(compute_dtype(best_device())).removeprefix("torch.")
    report = Report(f"pretraining, ours in {kind}: {options.batch} sequences of {options.seq_len} a step", "tokens/s")
    measured = {name: measure(name, options, report) for name in options.shapes.split(",")}
    ratios = {
        f"vs_trainer_{kind}_{name}": pairs.ratio for name, kinds in measured.items() for kind, pairs in kinds.items()
    }
    for kind in options.peers.split(","):
        ratios[f"vs_trainer_{kind}"] = min(kinds[kind].ratio for kinds in measured.values())
    report.finish(ratios, options.json)


if __name__ == "__main__":
    main()
