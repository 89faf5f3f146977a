"""Comparison of two copies of a model: their next-token distributions after 64 short prompts.

The prompts are the first quarter, half, three quarters and all of sixteen passages in several languages, code and
mathematics. Each copy reads them in one forward, packed as documents that do not see each other.

    top-1 agreement    share of prompts with the same most likely next token
    KL divergence      Σ p · (log p − log q) in nats, p of the source and q of the copy

This finds a wrong layout, a lost bias or a swapped gate. It does not measure quality; `qianwen eval` does.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from qianwen.model.transformer import Qwen
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer

PASSAGES = (
    "The library opens at nine in the morning and closes when the last reader has gone home for the night.",
    "Water boils at one hundred degrees Celsius at sea level, but on a high mountain it boils sooner.",
    "Paris is the capital of France, Rome is the capital of Italy, and the capital of Germany is Berlin.",
    "Once upon a time there lived an old fisherman who went out every day and came back with an empty net.",
    "床前明月光，疑是地上霜。举头望明月，低头思故乡。这首诗的作者是唐代诗人李白。",
    "中国的首都是北京，最大的城市是上海，最长的河流是长江，第二长的河流是黄河。",
    "人工智能是计算机科学的一个分支，它研究怎样让机器完成通常需要人的智能才能完成的工作。",
    "今天天气很好，我们一起去公园散步，孩子们在湖边喂鱼，老人们在树下打太极拳。",
    "def fibonacci(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a\n",
    'for (int i = 0; i < count; i++) {\n    total += values[i];\n}\nprintf("%d\\n", total);\n',
    "SELECT name, price FROM products WHERE price < 100 ORDER BY price DESC LIMIT 10;",
    "If 3x + 5 = 20, then 3x = 15 and x = 5. If 2y - 4 = 10, then 2y = 14 and y = 7.",
    "Le petit chat dort sur le canapé pendant que la pluie tombe doucement sur les toits de la ville.",
    "Der Zug nach Hamburg fährt um acht Uhr von Gleis sieben ab und kommt gegen Mittag an.",
    "東京は日本の首都であり、世界で最も人口の多い都市圏の一つです。春には桜が咲きます。",
    "Москва является столицей России, а Санкт-Петербург стоит на берегах реки Невы.",
)
CUTS = 4  # prompts in each passage


@dataclass(frozen=True)
class Parity:
    """The difference between a copy and its source, over `num_prompts` next-token distributions."""

    num_prompts: int
    top1_agreement: float
    mean_kl: float  # nats
    max_kl: float  # nats

    def __str__(self) -> str:
        message = "top-1 agreement {top1:.1%} over {count} prompts, mean KL divergence {mean:.1e} (maximum {max:.1e})"
        return tr(message, top1=self.top1_agreement, count=self.num_prompts, mean=self.mean_kl, max=self.max_kl)


@torch.inference_mode()
def next_token_logprobs(model: Qwen, tokenizer: Tokenizer) -> Tensor:
    """Log-probabilities of the next token after each prompt, fp32 [64, vocab_size] on the CPU."""
    ids, positions, ends = prompt_rows(tokenizer)
    device = next(model.parameters()).device
    hidden = model(ids.to(device), positions.to(device))[0, ends]
    return model.logits(hidden).float().log_softmax(-1).cpu()


def prompt_rows(tokenizer: Tokenizer) -> tuple[Tensor, Tensor, list[int]]:
    """The passages as one packed row, ids and positions [1, T], and the index of the last token of each prompt."""
    encoded = tokenizer.encode_batch(PASSAGES)
    ends, start = [], 0
    for passage in encoded:
        ends += [start + max(len(passage) * cut // CUTS, 1) - 1 for cut in range(1, CUTS + 1)]
        start += len(passage)
    ids = torch.tensor([[token for passage in encoded for token in passage]])
    return ids, torch.cat([torch.arange(len(passage)) for passage in encoded]).unsqueeze(0), ends


def probe_ids(tokenizer: Tokenizer) -> Tensor:
    """A short text in several languages, ids [1, T], to check a merge."""
    return torch.tensor([[token for passage in tokenizer.encode_batch(PASSAGES[::4]) for token in passage]])


def compare(source: Tensor, copy: Tensor) -> Parity:
    """Compare two results of `next_token_logprobs`."""
    divergence = (source.exp() * (source - copy)).sum(-1).clamp(min=0)
    agreement = (source.argmax(-1) == copy.argmax(-1)).double().mean()
    return Parity(len(source), agreement.item(), divergence.mean().item(), divergence.max().item())
