"""Fine-tuning beside TRL's SFTTrainer, on the same weights and the same packed sequences.

    python benchmarks/sft.py [--model DIR_OR_GGUF] [--seq-len 512] [--quick]

Two runs: all weights of a new network of the 20M shape, and an adapter of rank 64 around every linear of `--model`
(SmolLM2-135M in our results). Both sides get the sequences packed, in TRL's own form (`input_ids`, `labels`,
`seq_lengths`, `padding_free=True`), so no document sees another on either side. A step is four sequences; rate,
clipping, decay and type (bf16 where this machine multiplies it) are the same. The trainer recomputes no activations, as
we do not either, and takes its sequences one by one, which is faster for it here than four in one row (169 against 116
tokens/s); everything else is its default. Each side is a process of its own; they take steps in turn, and the mean loss
of all their steps is printed.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from finetune import ALPHA, DROPOUT, RANK, Side, batches
from pairs import Pairs, Report, alternate, arguments, console

from qianwen.runtime.device import compute_dtype, peak_memory_bytes

WEIGHTS = Path("~/.cache/qianwen-weights/smollm2-135m-instruct-q4_1.gguf").expanduser()
PER_STEP = 4  # sequences
RATE = {"full": 3e-4, "lora": 1e-4}
MAX_DIFFERENCE = 0.03  # of the mean losses, relative: bf16 rounds differently, and an adapter begins at random
CPU = torch.device("cpu")


def ours(folder: str, method: str, data: list[dict[str, torch.Tensor]]) -> None:
    """Our loop, as `qianwen sft` runs it."""
    from qianwen.checkpoints.load import load_model
    from qianwen.model.linears.lora import LoraConfig, attach
    from qianwen.train.loop import LoopConfig, run
    from qianwen.train.optim import AdamW, AdamWConfig
    from qianwen.train.pretrain import next_token_loss
    from qianwen.train.state import TrainState

    dtype = compute_dtype(CPU)
    model = load_model(folder, dtype=torch.float32 if method == "full" else dtype).model
    model.requires_grad_(True)
    if method == "lora":
        attach(model, LoraConfig(rank=RANK, alpha=ALPHA, dropout=DROPOUT))
    state = TrainState(model, AdamW(model, AdamWConfig(), compute_dtype=dtype))
    losses: list[float] = []

    def steps(count: int) -> None:
        last = state.step + count
        config = LoopConfig(
            steps=last, sequences_per_step=PER_STEP, micro_batch_size=1, lr=RATE[method], shape="constant"
        )
        hook = lambda _, metrics: losses.append(metrics["loss"])  # noqa: E731
        run(model, next_token_loss, lambda cursor: data[cursor % len(data)], config, state, [hook])

    for line in sys.stdin:
        began = time.perf_counter()
        steps(int(line))
        answer(began, losses)


def theirs(folder: str, method: str, data: list[dict[str, torch.Tensor]]) -> None:
    """SFTTrainer; a callback holds it at the beginning of a step until the next steps are wanted."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from transformers.utils import logging
    from trl import SFTConfig, SFTTrainer

    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    dtype = compute_dtype(CPU)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32 if method == "full" else dtype)
    losses: list[float] = []

    class Held(TrainerCallback):
        left, began = 0, 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if self.left == 0:
                if state.global_step:
                    answer(self.began, losses)
                line = sys.stdin.readline()
                if not line:
                    sys.exit()
                self.left, self.began = int(line), time.perf_counter()
            self.left -= 1

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                losses.append(float(logs["loss"]))

    linears = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapter = LoraConfig(
        r=RANK, lora_alpha=round(ALPHA), lora_dropout=DROPOUT, target_modules=linears, task_type="CAUSAL_LM"
    )
    with tempfile.TemporaryDirectory() as out:
        config = SFTConfig(
            output_dir=out, max_steps=100_000, per_device_train_batch_size=1, gradient_accumulation_steps=PER_STEP,
            learning_rate=RATE[method], lr_scheduler_type="constant", weight_decay=0.1, adam_beta2=0.95,
            max_grad_norm=1.0, bf16=dtype == torch.bfloat16, use_cpu=True, gradient_checkpointing=False,
            padding_free=True, packing=False, shuffle_dataset=False, max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True}, logging_steps=1, save_strategy="no", report_to=[],
            disable_tqdm=True, train_sampling_strategy="sequential",
        )  # fmt: skip
        trainer = SFTTrainer(
            model, args=config, train_dataset=Dataset.from_list(rows(data)), callbacks=[Held()],
            processing_class=AutoTokenizer.from_pretrained(folder), peft_config=adapter if method == "lora" else None,
        )  # fmt: skip
        trainer.train()


def rows(data: list[dict[str, torch.Tensor]]) -> list[dict[str, list[int]]]:
    """The sequences in TRL's form: labels are not shifted, and lengths of documents replace positions."""
    out = []
    for batch in data:
        starts = [*(batch["positions"][0] == 0).nonzero().flatten().tolist(), batch["positions"].size(1)]
        lengths = [end - start for start, end in zip(starts, starts[1:], strict=False)]
        labels = [-100, *batch["labels"][0, :-1].tolist()]
        out.append({"input_ids": batch["input_ids"][0].tolist(), "labels": labels, "seq_lengths": lengths})
    return out


def answer(began: float, losses: list[float]) -> None:
    """Seconds of the last steps, the peak of memory, and the mean loss of all steps so far."""
    seconds = time.perf_counter() - began
    print(json.dumps([seconds, peak_memory_bytes(), sum(losses) / max(len(losses), 1)]), flush=True)


def prepare(method: str, model: str, seq_len: int, folder: Path) -> tuple[Path, Path]:
    """The weights as a folder that both read, and packed sequences of dialogues about Python."""
    from qianwen.align.dialogues import PackedDialogues, rendered
    from qianwen.checkpoints.hf_folder import write_folder
    from qianwen.checkpoints.load import load_model
    from qianwen.cli.calibration_data import documentation
    from qianwen.model import PRESETS, Qwen
    from qianwen.runtime.files import atomic_folder
    from qianwen.tokenizer.tokenizer import Tokenizer
    from qianwen.tokenizer.train import train_vocabulary

    dialogues = list(documentation())[:400]
    if method == "full":
        shape = PRESETS["20m"]
        texts = [message.text for dialogue in dialogues for message in dialogue.messages]
        tokenizer = Tokenizer(train_vocabulary(texts, shape.vocab_size))
        network = Qwen(shape).init_weights(0)
    else:
        loaded = load_model(model, dtype=compute_dtype(CPU))
        network, tokenizer = loaded.model, loaded.tokenizer
    with atomic_folder(folder / method) as inside:
        write_folder(network, tokenizer, inside, chat=True)
    packed = PackedDialogues(rendered(dialogues, tokenizer, "clean", seq_len), seq_len, tokenizer.eod_id)
    full = [packed.batch(cursor, 1) for cursor in range(len(packed))]
    torch.save([batch for batch in full if batch["input_ids"].size(1) == seq_len][:32], folder / f"{method}.pt")
    return folder / method, folder / f"{method}.pt"


def measured(where: tuple[Path, Path], method: str, options: Any) -> tuple[Pairs, Pairs, list[float]]:
    """Tokens/s and GB of both sides, and their mean losses."""
    us, peer = sides = [Side(side, method, *where, script=__file__, peer="trl") for side in ("ours", "theirs")]
    for side in sides:
        side.steps(1)
    count = options.steps
    tokens = count * PER_STEP * options.seq_len
    speeds = alternate(lambda: tokens / us.steps(count), lambda: tokens / peer.steps(count), options.pairs)
    peaks = [side.peak / 1e9 for side in sides]
    for side in sides:
        side.end()
    return speeds, Pairs([peaks[0]], [peaks[1]]), [side.loss for side in sides]


def main() -> None:
    if "--child" in sys.argv:
        side, method, folder, data = sys.argv[sys.argv.index("--child") + 1 :]
        sides: dict[str, Callable[..., None]] = {"ours": ours, "theirs": theirs}
        sides[side](folder, method, batches(Path(data)))
        return
    options = arguments(__doc__, model=str(WEIGHTS), seq_len=512, steps=4, methods="full,lora")
    if options.quick:
        options.pairs, options.steps, options.seq_len = 2, 1, 256
    report, ratios = Report("fine-tuning beside TRL's SFTTrainer", "tokens/s or GB"), {}
    names = {"full": "all weights, 20M", "lora": "LoRA, 135M"}
    with tempfile.TemporaryDirectory() as folder:
        for method in options.methods.split(","):
            where = prepare(method, options.model, options.seq_len, Path(folder))
            speeds, peaks, losses = measured(where, method, options)
            report.add(f"{names[method]}, tokens/s", speeds)
            report.add(f"{names[method]}, peak GB", peaks)
            report.note(f"{names[method]}, mean loss of ours and peer", [round(loss, 4) for loss in losses])
            console.print(f"{names[method]}: {speeds.ratio:.2f} × the speed, losses {losses}", highlight=False)
            if abs(losses[0] - losses[1]) > MAX_DIFFERENCE * losses[1]:
                raise SystemExit(f"the two sides do not train the same: mean losses {losses}")
            ratios[f"vs_trl_{method}"] = speeds.ratio
    report.finish({"vs_trl": min(ratios.values()), **ratios}, options.json)


if __name__ == "__main__":
    main()
