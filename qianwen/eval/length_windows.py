"""How well a network predicts the same tokens with contexts of different lengths: documents read in windows.

    document         its first `longest` tokens
    window           `length` consecutive tokens; the next window begins where it ends, and sees nothing of it
    scored tokens    all but those at a multiple of the shortest length, where a window of some length begins

So every length scores the same tokens. In a window of L tokens a token has on average L / 2 tokens before it. The last
quarter of each window has at least 3 L / 4; those are other tokens at every length.

The published table (memo, long context) does not say how its windows were cut. A model trained on 2,048 tokens has
39.4 at 4,096 and 470 at 8,192: with 3.8 for the first 2,048 tokens that is about 400 for the tokens behind them, and
5,600 for those behind 4,096. So it is a mean over all tokens of a window, as here; windows that overlap and score
only their end would have given the hundreds at 4,096 already.

Shapes: W windows, L tokens of a window.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from qianwen.eval.metrics import Share
from qianwen.model.loss import IGNORE
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

BATCH_TOKENS, HEAD_ROWS = 8192, 1024  # tokens of one forward; rows of logits at a time
WindowLosses = Callable[[Tensor], Tensor]  # ids [W, L] → nats of each token but the first [W, L - 1]


class LengthLoss(NamedTuple):
    """Nats over tokens of one document at one length."""

    every: Share  # all scored tokens
    last_quarter: Share  # those in the last quarter of their window


def check_lengths(lengths: Sequence[int]) -> None:
    """ConfigError unless each length is a multiple of the shortest and divides the longest."""
    shortest, longest = min(lengths), max(lengths)
    for length in lengths:
        if shortest < 2 or length % shortest or longest % length:
            message = "length {length} does not fit: each length must be a multiple of {shortest} and divide {longest}"
            raise ConfigError(tr(message, length=length, shortest=shortest, longest=longest))


def cut(ids: Sequence[int], length: int, longest: int) -> Tensor:
    """The first `longest` of `ids` as windows [W, length]."""
    return torch.tensor(ids[:longest]).view(-1, length)


def length_loss(nats: Tensor, shortest: int) -> LengthLoss:
    """The sums over the windows of one document, from the nats of each token but the first [W, L - 1]."""
    offsets = torch.arange(1, nats.size(1) + 1)
    is_scored = offsets % shortest != 0
    is_late = is_scored & (offsets >= 3 * len(offsets.new_zeros(nats.size(1) + 1)) // 4)
    wide = nats.double()
    return LengthLoss(*(Share(wide[:, mask].sum().item(), int(mask.sum()) * len(nats)) for mask in (is_scored, is_late)))


def network_losses(model: Qwen) -> WindowLosses:
    """The nats of a network without a cache, in its own precision; the softmax is in float32.

    Windows go through in batches, so that a long one does not need more memory than many short ones.
    """

    @torch.inference_mode()
    def losses(windows: Tensor) -> Tensor:
        rows = max(1, BATCH_TOKENS // windows.size(1))
        return torch.cat([_losses(model, batch) for batch in windows.split(rows)])

    return losses


def _losses(model: Qwen, windows: Tensor) -> Tensor:
    hidden = model(windows)[:, :-1].flatten(0, 1)
    labels = windows[:, 1:].flatten()
    parts = zip(hidden.split(HEAD_ROWS), labels.split(HEAD_ROWS), strict=True)
    nats = [torch.nn.functional.cross_entropy(model.logits(h).float(), wanted, reduction="none") for h, wanted in parts]
    return torch.cat(nats).view(len(windows), -1)
