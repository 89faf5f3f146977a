"""Speed and memory of fine-tuning beside peft and transformers, on the same weights and the same tokens.

    python benchmarks/finetune.py --model DIR_OR_GGUF [--data DIALOGUES] [--methods lora,qlora] [--seq-len 512]

Both train an adapter of rank 64 around every linear of the layers, in bfloat16 where this machine multiplies it, one
sequence a step, with a fused AdamW. Q-LoRA recomputes layers on both sides, as the released script does; its peer has
its base in bitsandbytes' NF4. Each side is a process of its own, so that its peak of resident memory is its own; they
take steps in turn.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pairs import Pairs, Report, alternate, arguments, console
from peers import peer_path

from qianwen.model.transformer import Qwen
from qianwen.runtime.device import compute_dtype, peak_memory_bytes

RANK, ALPHA, DROPOUT = 64, 16.0, 0.05
STEPS = 2  # of a measurement
Step = Callable[[], None]


def batches(path: Path) -> list[dict[str, torch.Tensor]]:
    """The packed sequences that both learn from."""
    return torch.load(path, weights_only=True)


def ours(folder: str, method: str, data: list[dict[str, torch.Tensor]]) -> Step:
    """Our loop, one step at a time."""
    from qianwen.checkpoints.load import load_model

    bits: Any = "nf4" if method == "qlora" else None
    return stepper(
        load_model(folder, bits=bits, dtype=compute_dtype(torch.device("cpu"))).model, method, data, method == "qlora"
    )


def stepper(model: Qwen, method: str, data: list[dict[str, torch.Tensor]], recompute: bool = False) -> Step:
    """A step of an adapter beside `model`, or of all its weights."""
    from qianwen.model.linears.lora import LoraConfig, attach
    from qianwen.train.loop import LoopConfig, run
    from qianwen.train.optim import AdamW, AdamWConfig
    from qianwen.train.parallel import ParallelConfig, parallelize
    from qianwen.train.pretrain import next_token_loss
    from qianwen.train.state import TrainState

    dtype = compute_dtype(model.model.norm.weight.device)
    if method == "full":
        model.requires_grad_(True)
    else:
        attach(model, LoraConfig(rank=RANK, alpha=ALPHA, dropout=DROPOUT))
    if recompute:
        parallelize(model, model.model.layers, ParallelConfig(checkpoint_activations=True), dtype)
    state = TrainState(model, AdamW(model, AdamWConfig(), compute_dtype=dtype))

    def step() -> None:
        config = LoopConfig(steps=state.step + 1, sequences_per_step=1, micro_batch_size=1, lr=1e-4)
        run(model, next_token_loss, lambda cursor: data[cursor % len(data)], config, state)

    return step


def theirs(folder: str, method: str, data: list[dict[str, torch.Tensor]]) -> Step:
    """peft around transformers' network, stepped by hand: what their Trainer does, without its logging."""
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from transformers.utils import logging

    warnings.simplefilter("ignore")
    logging.disable_progress_bar()
    dtype, extra = compute_dtype(torch.device("cpu")), {}
    if method == "qlora":
        four = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": dtype}
        extra = {"quantization_config": BitsAndBytesConfig(load_in_4bit=True, **four), "device_map": "cpu"}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **extra)
    model.config.use_cache = False
    if method == "qlora":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=True)
    linears = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(
        model,
        LoraConfig(
            r=RANK, lora_alpha=round(ALPHA), lora_dropout=DROPOUT, target_modules=linears, task_type="CAUSAL_LM"
        ),
    )
    model.train()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer, taken = torch.optim.AdamW(trained, lr=1e-4, fused=True), 0

    def step() -> None:
        nonlocal taken
        batch = data[taken % len(data)]
        taken += 1
        # Their network shifts labels itself; ours are shifted already.
        labels = torch.cat((torch.full((1, 1), -100), batch["labels"][:, :-1]), dim=1)
        model(input_ids=batch["input_ids"], labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def child(side: str, method: str, folder: str, data: str) -> None:
    """Take as many steps as each line of the input says, and answer with seconds and the peak of memory so far."""
    step = {"ours": ours, "theirs": theirs}[side](folder, method, batches(Path(data)))
    for line in sys.stdin:
        began = time.perf_counter()
        for _ in range(int(line)):
            step()
        print(json.dumps([time.perf_counter() - began, peak_memory_bytes()]), flush=True)


class Side:
    """A child process that takes steps when told to: `script --child side method folder data`, by the peer's Python."""

    def __init__(
        self, side: str, method: str, folder: Path, data: Path, *, script: str = __file__, peer: str = "peft"
    ) -> None:
        python = sys.executable if side == "ours" else peer_path(peer)
        command = [python, script, "--child", side, method, str(folder), str(data)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.peak = 0.0
        self.loss = 0.0  # of the steps so far, where the child says so

    def steps(self, count: int) -> float:
        """Seconds of so many steps."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        answer = next((line for line in self.process.stdout if line.startswith("[")), None)
        if answer is None:
            raise SystemExit(f"{self.process.args} ended early")
        seconds, self.peak, *loss = json.loads(answer)
        self.loss = loss[0] if loss else 0.0
        return seconds

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def prepare(options: Any, folder: Path) -> tuple[Path, Path]:
    """The weights as a folder both can read, and packed sequences of dialogues."""
    from qianwen.align.dialogues import PackedDialogues, read_dialogues, rendered
    from qianwen.checkpoints.hf_folder import write_folder
    from qianwen.checkpoints.load import load_model
    from qianwen.cli.calibration_data import documentation
    from qianwen.runtime.files import atomic_folder

    loaded = load_model(options.model, dtype=compute_dtype(torch.device("cpu")))
    with atomic_folder(folder / "model") as inside:
        write_folder(loaded.model, loaded.tokenizer, inside, chat=True)
    dialogues = list(read_dialogues(options.data)) if options.data else list(documentation())
    packed = PackedDialogues(
        rendered(dialogues[:500], loaded.tokenizer, "clean", options.seq_len), options.seq_len, loaded.tokenizer.eod_id
    )
    torch.save([packed.batch(cursor, 1) for cursor in range(min(len(packed), 16))], folder / "data.pt")
    return folder / "model", folder / "data.pt"


def measured(method: str, options: Any, where: tuple[Path, Path]) -> tuple[Pairs, Pairs]:
    """Tokens/s and GB of both sides."""
    us, peer = sides = [Side(side, method, *where) for side in ("ours", "theirs")]
    for side in sides:
        side.steps(1)
    tokens = STEPS * options.seq_len
    speeds = alternate(lambda: tokens / us.steps(STEPS), lambda: tokens / peer.steps(STEPS), options.pairs)
    peaks = [side.peak / 1e9 for side in sides]
    for side in sides:
        side.end()
    return speeds, Pairs([peaks[0]], [peaks[1]])


def main() -> None:
    if "--child" in sys.argv:
        child(*sys.argv[sys.argv.index("--child") + 1 :])
        return
    options = arguments(__doc__, model="", data="", methods="lora,qlora", seq_len=512)
    if not options.model:
        raise SystemExit("--model names a folder or a GGUF file")
    options.pairs = 2 if options.quick else options.pairs
    report, ratios = Report("fine-tuning beside peft and transformers", "tokens/s or GB"), {}
    with tempfile.TemporaryDirectory() as folder:
        where = prepare(options, Path(folder))
        for method in options.methods.split(","):
            speeds, peaks = measured(method, options, where)
            console.print(f"{method}: {speeds.ratio:.2f} × the speed, {peaks.ratio:.2f} × the memory", highlight=False)
            report.add(f"{method}, tokens/s", speeds)
            report.add(f"{method}, peak GB", peaks)
            ratios |= {f"{method}_speed": speeds.ratio, f"{method}_memory": 1 / peaks.ratio}
    report.finish(ratios, options.json)


if __name__ == "__main__":
    main()
