"""Default settings of a fine-tuning: method, learning rate and length, chosen from the free memory and the data.

    length    of the longest dialogue, rounded up to 64 tokens; at most 2,048 and the context of the model
    method    full     for a network below 100 million weights: an adapter of low rank learns little there
              lora     if the weights fit in 16 bits beside the adapter, activations stored or else recomputed
              qlora    if only four bits fit, and for a base that has four bits already
    rate      3e-4 for adapters; 1e-5 for all weights of a network with a billion of them (the released scripts), and
              more for a smaller network
    batch     sequences per step so that an epoch has at least twenty steps; at most 16

The command prints all of them, and every option overrides its value. The memory is predicted (`train/plan.py`); at most
80 % of the free memory is used.
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
ROOM = 0.8  # usable fraction of the free memory


@dataclass(frozen=True)
class Choice:
    """Settings that fit a model, its data and the machine."""

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
    """`lengths` of the dialogues in tokens; `free` bytes. A given `method` or `seq_len` is not changed.

    Raises ConfigError if no method fits.
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
    if method:  # the user's choice is used even if it may not fit
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
