"""How well the same tokens are predicted with contexts of different lengths: documents read in windows.

    document         its first `longest` tokens
    window           `length` consecutive tokens; the next one begins where it ends, and sees nothing of it
    scored tokens    all but those at a multiple of the shortest length, where a window of some length begins

So every length scores the same tokens. In a window of L tokens, a token has on average L / 2 tokens before it. In the
last quarter of a window a token has at least 3 L / 4; those are other tokens at every length.

The memo does not say how it cut the windows of its table. Its model, trained on 2,048 tokens, has a perplexity of 39 at
4,096 and of 470 at 8,192. If all tokens of a window count and the first 2,048 have 3.8, as in the column before, those
behind them have about 410, and those behind 4,096 about 5,600. If only the ends of overlapping windows counted, 4,096
would show the hundreds already. So it is most likely the mean over all tokens, as here.

Shapes: W windows, L tokens of a window.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from qianwen.eval.metrics import Share
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

BATCH_TOKENS, HEAD_ROWS = 8192, 1024  # tokens of one forward; rows of logits at a time


class WindowLoss(NamedTuple):
    """Nats over tokens of one document at one length."""

    every_token: Share
    last_quarter: Share  # of each window


def check_lengths(lengths: Sequence[int]) -> None:
    """ConfigError unless each length is a multiple of the shortest and divides the longest."""
    shortest, longest = min(lengths), max(lengths)
    for length in lengths:
        if shortest < 2 or length % shortest or longest % length:
            message = "length {length} does not fit: each length must be a multiple of {shortest} and divide {longest}"
            raise ConfigError(tr(message, length=length, shortest=shortest, longest=longest))


def cut_windows(ids: Sequence[int], length: int, longest: int) -> Tensor:
    """The first `longest` of `ids` as windows [W, length]."""
    return torch.tensor(ids[:longest]).view(-1, length)


def window_loss(nats: Tensor, shortest: int) -> WindowLoss:
    """The sums over the windows of one document, from the nats of each token but the first, [W, L - 1]."""
    length = nats.size(1) + 1
    place = torch.arange(1, length)
    is_scored = place % shortest != 0
    is_late = is_scored & (4 * place >= 3 * length)
    wide = nats.double()
    return WindowLoss(
        *(Share(wide[:, part].sum().item(), int(part.sum()) * len(nats)) for part in (is_scored, is_late))
    )


@torch.inference_mode()
def window_nats(model: Qwen, windows: Tensor) -> Tensor:
    """The nats of each token but the first of windows [W, L] → [W, L - 1], by a network without a cache.

    Windows go through in batches, so that many short ones need no more memory than a long one.
    """
    rows = max(1, BATCH_TOKENS // windows.size(1))
    return torch.cat([_nats(model, batch) for batch in windows.split(rows)])


def _nats(model: Qwen, windows: Tensor) -> Tensor:
    hidden = model(windows)[:, :-1].flatten(0, 1)
    parts = zip(hidden.split(HEAD_ROWS), windows[:, 1:].flatten().split(HEAD_ROWS), strict=True)
    nats = [F.cross_entropy(model.logits(rows).float(), labels, reduction="none") for rows, labels in parts]
    return torch.cat(nats).view(len(windows), -1)
