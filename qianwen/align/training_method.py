"""How to fine-tune a model when nobody says how: method, rate and length, from memory and data.

    length    that of the longest dialogue, in steps of 64 tokens, at most 2,048 and what the model reads
    method    full     a network below 100 million weights: there is little to keep, and low ranks teach it little
              lora     where the weights fit in 16 bits beside the adapter, activations kept or else computed again
              qlora    where only four bits fit, and over a base that has them already
    rate      3e-4 for adapters, 1e-5 for whole networks of a billion weights (the released scripts), more for smaller
    batch     as many sequences a step as leave twenty steps an epoch, at most 16

Everything is printed and can be said otherwise. Memory is predicted (`train/plan.py`), and a fifth of it left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from qianwen.model.account import num_parameters
from qianwen.model.config import QwenConfig
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr
from qianwen.train.plan import Task, memory

ADAPTER_LR = 3e-4
FULL_LR, FULL_LR_WEIGHTS, MAX_FULL_LR = 1e-5, 1e9, 3e-4
SMALL = 100_000_000  # weights
MAX_LEN, LEN_STEP = 2048, 64
STEPS_PER_EPOCH, MAX_SEQUENCES = 20, 16
ROOM = 0.8  # of the free memory


@dataclass(frozen=True)
class Choice:
    """What suits a model, its data and the machine."""

    method: str
    lr: float
    seq_len: int
    sequences_per_step: int
    recompute: bool
    bytes_needed: float


def choose(
    config: QwenConfig,
    lengths: Sequence[int],
    free: float,
    *,
    itemsize: int = 2,
    method: str = "",
    has_few_bits: bool = False,
    seq_len: int = 0,
) -> Choice:
    """`lengths` of the dialogues in tokens; `free` bytes. `method` and `seq_len` are kept where they are given.

    Raises ConfigError where no method fits.
    """
    longest = -(-max(lengths, default=1) // LEN_STEP) * LEN_STEP
    seq_len = seq_len or min(longest, MAX_LEN, config.max_position_embeddings)
    small = num_parameters(config) < SMALL
    methods = [method] if method else ["qlora"] if has_few_bits else ["full"] if small else ["lora", "qlora"]
    tried = []
    for name in methods:
        for recompute in (False, True):
            task: Task = name  # type: ignore[assignment]
            need = memory(config, task, seq_len, itemsize=itemsize, recompute=recompute).total
            tried.append(need)
            if need <= ROOM * free:
                return Choice(name, _rate(config, name), seq_len, _batch(lengths, seq_len), recompute, need)
    if method:  # asked for by name: it is tried all the same
        return Choice(method, _rate(config, method), seq_len, _batch(lengths, seq_len), True, tried[-1])
    message = (
        "{method} with {tokens} tokens needs about {need:.1f} GB, but {free:.1f} GB is free: "
        "use a smaller model or a shorter --seq-len"
    )
    raise ConfigError(tr(message, method=methods[-1], tokens=seq_len, need=tried[-1] / 1e9, free=free / 1e9))


def _rate(config: QwenConfig, method: str) -> float:
    if method != "full":
        return ADAPTER_LR
    rate = FULL_LR * max(1.0, FULL_LR_WEIGHTS / num_parameters(config)) ** 0.5
    return float(f"{min(rate, MAX_FULL_LR):.1g}")


def _batch(lengths: Sequence[int], seq_len: int) -> int:
    sequences = sum(min(length, seq_len) for length in lengths) // seq_len
    return max(1, min(MAX_SEQUENCES, sequences // STEPS_PER_EPOCH))
