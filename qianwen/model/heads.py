"""The network with a scalar head: a score for each token instead of a next token (report, 3.2: reward model, PPO).

    score = w · hidden + b        reward model: the score of an answer is the score of its last token
                                  value model: the score of a token is the expected reward from there on

`QwenWithHead` is used for both. Its backbone is an ordinary `Qwen`, so adapters, packed and 4-bit linears work as in a
language model. It is saved as the folder of a language model with two small files added (`checkpoints/head_file.py`).
Losses on scores and their use are in `align/`.

Shapes: B rows, T tokens, H hidden_size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen


class ScalarHead(nn.Module):
    """hidden [..., H] → scores [...], always in fp32, because bf16 has only three digits for a score."""

    kind = "scalar"

    def __init__(self, hidden_size: int, *, seed: int = 0) -> None:
        """Weights are drawn from N(0, 1 / (H + 1)) as in Stiennon et al. 2020; they are the same on every device."""
        super().__init__()
        drawn = torch.randn(1, hidden_size, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(drawn / math.sqrt(hidden_size + 1))
        self.bias = nn.Parameter(torch.zeros(1))

    @property
    def hidden_size(self) -> int:
        return self.weight.size(1)

    def forward(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden.float(), self.weight.float(), self.bias.float()).squeeze(-1)


class QwenWithHead(nn.Module):
    """`scores = model(ids)`: a reward or value model.

    >>> model = QwenWithHead(Qwen(config).init_weights(seed=0), ScalarHead(config.hidden_size))
    >>> values = model(ids)                         [B, T]
    >>> rewards = model(ids, at=last_tokens)        [n]
    """

    def __init__(self, backbone: Qwen, head: ScalarHead) -> None:
        """The language model head of `backbone` is not used; it is frozen, unless it is tied to the embedding."""
        super().__init__()
        assert head.hidden_size == backbone.config.hidden_size
        self.backbone, self.head = backbone, head
        if not backbone.config.tie_word_embeddings:
            backbone.lm_head.requires_grad_(False)

    @property
    def config(self) -> QwenConfig:
        return self.backbone.config

    def forward(self, input_ids: Tensor, positions: Tensor | None = None, *, at: Tensor | None = None) -> Tensor:
        """input_ids [B, T] → scores [B, T], or scores [n] of the tokens `at` [n], numbered over all rows.

        `positions` [B, T] that restart at 0 mark packed documents, as in `Qwen`.
        """
        hidden = self.backbone(input_ids, positions)
        return self.head(hidden if at is None else hidden.flatten(0, 1)[at])
