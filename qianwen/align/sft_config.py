"""The configuration of a fine-tuning run."""

from dataclasses import dataclass, field
from typing import Literal

from qianwen.chat.render import Mask
from qianwen.model.linears.lora import LoraConfig
from qianwen.train.loop import LoopConfig
from qianwen.train.optim import AdamWConfig

Data = str | tuple[str, ...]  # one file of dialogues, or several
Method = Literal["full", "lora", "qlora"]


@dataclass(frozen=True, kw_only=True)
class SFTConfig:
    """Configuration of a fine-tuning run. Defaults are those of the released finetune.py where it has the option."""

    name: str  # name of the run folder inside the folder of runs
    model: str  # model to fine-tune: folder, GGUF file, run name or hub id
    data: Data  # file of training dialogues, or several files
    weights: tuple[float, ...] = ()  # of each file: its part of the sequences; without them each dialogue counts alike
    method: Method = "full"  # full: all weights; lora: an adapter; qlora: an adapter of a 4-bit model
    lora: LoraConfig = field(default_factory=LoraConfig)  # adapter settings for lora and qlora
    mask: Mask = "clean"  # which tokens have a label: see chat/render.py
    seq_len: int = 2048  # tokens per packed sequence; longer dialogues are truncated
    epochs: float = 5.0  # passes over the dialogues; only if loop.steps is 0
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=0, sequences_per_step=16, micro_batch_size=1, lr=1e-5)
    )
    optim: AdamWConfig = field(default_factory=AdamWConfig)
    dropout: float = 0.0  # share of the values that each residual branch drops in training
    checkpoint_activations: bool = False  # recompute layers in the backward pass: a third more work, far less memory
    shards: int = 0  # processes that share one copy of the weights; 0: all
    seed: int = 0  # random seed of the sequence order, the initial adapter and dropout
    log_steps: int = 10  # steps between two lines of metrics
    save_steps: int = 200  # steps between two checkpoints
    keep_checkpoints: int = 2  # number of newest checkpoints to keep
    held_out: tuple[str, ...] = ()  # files of held-out dialogues; the loss on them is measured every save_steps steps
