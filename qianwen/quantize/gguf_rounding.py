"""How to round a model for a GGUF file: the importance of every input, and the matrices that need more bits.

    texts → importance → every linear rounded alone → change of its layer's output → more bits where it is large

A matrix is rounded as its file type says, alone in its layer, whose inputs are exact. Its error is the change of the
layer's output h, relative for each token: |h' − h| / |h|. Two rules give more bits:

    a token changes by a tenth or more      a few tokens of a text, its first above all, have states a hundred times
                                            as large as others; they come from few rows of early feed-forwards, all
                                            other tokens attend to them, and late layers subtract them again. An error
                                            there changes every answer
    the largest mean square for a bit       within 4 % of the layers' bits: in a small model these are values, keys and
                                            the first feed-forwards

Not here: a choice for the embedding and the head, which have more bits in each type.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qianwen.checkpoints.gguf.network import NAMES
from qianwen.checkpoints.gguf.tensor_types import GgufType, Rounding, fitting, tensor_type
from qianwen.kernels.gguf_blocks import FORMATS
from qianwen.kernels.gguf_encoding import rounded
from qianwen.model.transformer import Qwen
from qianwen.quantize import calibration
from qianwen.quantize.calibration import LINEARS
from qianwen.quantize.importance import input_importance
from qianwen.runtime.log import progress
from qianwen.runtime.translation import tr

NUM_TEXTS, PROBE_LEN = 8, 48  # of the calibration texts, and tokens of each, that go through the layers
MAX_CHANGE = 0.1  # of a token's state
MORE_BITS = 0.04  # of all bits of the layers
LADDER = ("Q4_0", "Q4_K", "Q5_0", "Q5_1", "Q5_K", "Q6_K", "Q8_0")
# Error of weights from a normal distribution, relative to them, after rounding to each of these formats.
ERROR = {"Q4_0": 0.081, "Q4_K": 0.070, "Q5_0": 0.040, "Q5_1": 0.034, "Q5_K": 0.034, "Q6_K": 0.018, "Q8_0": 0.0055}


@dataclass
class Matrix:
    """A linear's weight, its format, and the relative change of its layer's output: the largest and the mean square."""

    name: str
    type: str
    shape: torch.Size
    largest: float
    mean_square: float

    @property
    def bits(self) -> float:
        return self.shape.numel() * _bits(self.type)

    def next_type(self) -> str | None:
        """The next larger format that fits the rows; None at the end of the ladder."""
        larger = (fitting(type, self.shape[-1]) for type in LADDER[LADDER.index(self.type) + 1 :])
        return next((type for type in larger if _bits(type) > _bits(self.type)), None)

    def cost(self) -> float:
        """The bits that the next format takes more; infinite at the end of the ladder."""
        type = self.next_type()
        return math.inf if type is None else self.shape.numel() * (_bits(type) - _bits(self.type))

    def gain(self) -> float:
        """The mean square that the next format saves for each bit that it costs; 0 at the end of the ladder."""
        type = self.next_type()
        return 0.0 if type is None else self.mean_square * (1 - (ERROR[type] / ERROR[self.type]) ** 2) / self.cost()

    def promote(self) -> None:
        type = self.next_type()
        assert type is not None
        share = ERROR[type] / ERROR[self.type]
        self.type, self.largest, self.mean_square = type, self.largest * share, self.mean_square * share**2


def choose_rounding(model: Qwen, type: GgufType, texts: Sequence[Sequence[int]], seq_len: int) -> Rounding:
    """The rounding of `model` for a file of `type`, by token ids of texts; without texts, the plain one of the type."""
    texts = [text for text in texts if len(text)]
    if not texts:
        return Rounding()
    importance = input_importance(model, texts, seq_len)
    matrices = list(_measured(model, type, texts, importance))
    usual = {matrix.name: matrix.type for matrix in matrices}
    give_more_bits(matrices)
    return Rounding(importance, {m.name: m.type for m in matrices if m.type != usual[m.name]})


def give_more_bits(matrices: Sequence[Matrix]) -> None:
    """Change the formats by the two rules above."""
    for matrix in matrices:
        while matrix.largest > MAX_CHANGE and matrix.next_type():
            matrix.promote()
    room = MORE_BITS * sum(matrix.bits for matrix in matrices)
    while affordable := [matrix for matrix in matrices if matrix.cost() <= room and matrix.gain() > 0]:
        best = max(affordable, key=Matrix.gain)
        room -= best.cost()
        best.promote()


@torch.inference_mode()
def _measured(
    model: Qwen, type: GgufType, texts: Sequence[Sequence[int]], importance: Mapping[str, Tensor]
) -> Iterator[Matrix]:
    """The matrices of all layers, rounded one at a time."""
    count, num_tokens = model.config.num_hidden_layers, NUM_TEXTS * PROBE_LEN
    probe = calibration.packed_rows([text[:PROBE_LEN] for text in texts[:NUM_TEXTS]], num_tokens)
    (row,) = calibration.start(model.config, model.model.embed_tokens.weight, list(probe))
    for index in progress(range(count), count, tr("measuring the rounding to {type}", type=type)):
        layer = model.model.layers[index]
        exact = layer(row.states, row.rotate, row.cache)
        for linear in LINEARS:
            name = f"model.layers.{index}.{linear}.weight"
            weight = layer.get_parameter(f"{linear}.weight")
            own = tensor_type(_file_name(name), tuple(weight.shape), type, count)
            if own in ERROR:
                with _replaced(weight, rounded(weight, own, importance[name])):
                    change = _change(layer(row.states, row.rotate, row.cache), exact)
                yield Matrix(name, own, weight.shape, change.max().item(), change.square().mean().item())
        row.states = exact


@contextmanager
def _replaced(weight: nn.Parameter, values: Tensor) -> Iterator[None]:
    own, weight.data = weight.data, values.to(weight)
    try:
        yield
    finally:
        weight.data = own


def _change(states: Tensor, exact: Tensor) -> Tensor:
    """The relative change of each token's state [1, T, H] → [T]."""
    return ((states - exact).norm(dim=-1) / exact.norm(dim=-1))[0]


def _file_name(name: str) -> str:
    for ours, theirs in NAMES:
        name = name.replace(ours, theirs)
    return name


def _bits(type: str) -> float:
    """Bits of a weight, scales included."""
    return FORMATS[type].bytes * 8 / FORMATS[type].weights
