"""Comparison of two copies of a model: their next-token distributions after 64 short prompts.

The prompts are the first quarter, half, three quarters and all of sixteen passages in several languages, code and
mathematics. Each copy reads them in one forward, packed as documents that do not see each other.

    top-1 agreement    share of prompts with the same most likely next token
    KL divergence      Σ p · (log p − log q) in nats, p of the source and q of the copy

This finds a wrong layout, a lost bias or a swapped gate, and measures what rounding costs. It does not measure quality;
`qianwen eval` does.

A copy of an adapter must be compared with the model that was trained, which may have had other base weights (four
bits, an older file) than those that its config names today. So training records the 16 most likely tokens after each
prompt in the adapter's folder. From a record the KL divergence is that of the distribution over these tokens and "any
other", which is never more than the KL divergence over all tokens.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.files import atomic_file
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
RECORD, NUM_RECORDED = "next_tokens.json", 16  # file in an adapter's folder, and tokens in it for each prompt


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
    return _parity(source.argmax(-1) == copy.argmax(-1), source, copy)


def _parity(is_equal: Tensor, source: Tensor, copy: Tensor) -> Parity:
    divergence = (source.exp() * (source - copy)).sum(-1).clamp(min=0)
    return Parity(len(source), is_equal.double().mean().item(), divergence.mean().item(), divergence.max().item())


# ---- the record of a training -----------------------------------------------------------------------------------


class Record(NamedTuple):
    """The most likely next tokens after each prompt, best first, and their log-probabilities, each [64, 16]."""

    tokens: Tensor
    logprobs: Tensor

    def compare(self, copy: Tensor) -> Parity:
        """Compare the recorded model with a result of `next_token_logprobs`."""
        found = copy.gather(1, self.tokens)
        source, copy_of_record = (torch.cat([part, _rest(part)], 1) for part in (self.logprobs, found))
        return _parity(self.tokens[:, 0] == copy.argmax(-1), source, copy_of_record)


def _rest(logprobs: Tensor) -> Tensor:
    """The log-probability of all tokens that are not listed, [64, 1]."""
    return (1 - logprobs.exp().sum(-1, keepdim=True)).clamp(min=1e-9).log()


def write_record(model: Qwen, tokenizer: Tokenizer, folder: Path) -> None:
    """Record the answers of a trained model in the folder of its adapter."""
    logprobs, tokens = next_token_logprobs(model.eval(), tokenizer).topk(NUM_RECORDED)
    rows = {"tokens": tokens.tolist(), "logprobs": [[round(value, 5) for value in row] for row in logprobs.tolist()]}
    with atomic_file(folder / RECORD, "w") as file:
        json.dump(rows, file)


def read_record(folder: Path, vocab_size: int) -> Record | None:
    """The record in an adapter's folder; None if its trainer wrote none. Raises CheckpointError if it is damaged."""
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        record = Record(torch.tensor(rows["tokens"]), torch.tensor(rows["logprobs"], dtype=torch.float32))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(tr("{path}: cannot be read ({error})", path=path, error=error)) from error
    shape, is_token = (len(PASSAGES) * CUTS, NUM_RECORDED), not record.tokens.is_floating_point()
    fits = record.tokens.shape == record.logprobs.shape == shape and is_token
    if not fits or not 0 <= record.tokens.min() <= record.tokens.max() < vocab_size:
        message = "{path} is not a record of this model's answers; train again, or remove it to skip the comparison"
        raise CheckpointError(tr(message, path=path))
    return record
