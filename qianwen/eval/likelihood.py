"""Log-probabilities of given texts under a model, many texts to a forward pass.

A document is charged in full: its first token, which nothing precedes, as one of `vocab_size` equals; each later one by
the model, a window of the model's length at a time, each window beginning with the last token of the one before; its
end by the end-of-document token. A continuation is charged from its first token on, the context before it is free.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from qianwen.eval.task import Answer, Loglikelihood
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer

TOKENS_AT_ONCE = 4096  # in a forward pass
ROWS_AT_ONCE = 1024  # whose scores over the vocabulary are held


class Window(NamedTuple):
    """Tokens read together, the first that is charged, and the example they are of."""

    ids: list[int]
    first: int
    example: int


def likelihoods(model: Qwen, tokenizer: Tokenizer, examples: Sequence[Loglikelihood], max_len: int) -> list[Answer]:
    """The answers to `examples`, in nats. Raises RequestError for a context and continuation longer than `max_len`."""
    windows = [w for number, example in enumerate(examples) for w in _windows(example, number, tokenizer, max_len)]
    sums, counts = [0.0] * len(examples), [0] * len(examples)
    for number, example in enumerate(examples):
        if not example.context:
            sums[number], counts[number] = -math.log(tokenizer.vocab_size), 1
    for group in _groups(windows):
        for window, logprobs in zip(group, _logprobs(model, group), strict=True):
            sums[window.example] += logprobs.sum(dtype=torch.float64).item()
            counts[window.example] += len(logprobs)
    return [Answer(logprob=total, num_tokens=count) for total, count in zip(sums, counts, strict=True)]


def _windows(example: Loglikelihood, number: int, tokenizer: Tokenizer, max_len: int) -> Iterator[Window]:
    ids = tokenizer.encode(example.continuation)
    if not example.context:
        ids.append(tokenizer.eod_id)
        for start in range(0, len(ids) - 1, max_len - 1):
            yield Window(ids[start : start + max_len], 1, number)
        return
    before = tokenizer.encode(example.context)
    if len(before) + len(ids) > max_len:
        size = len(before) + len(ids)
        raise RequestError(tr("{size} tokens of context and answer, the model reads {most}", size=size, most=max_len))
    yield Window(before + ids, len(before), number)


def _groups(windows: Iterable[Window]) -> Iterator[list[Window]]:
    """Windows put together up to TOKENS_AT_ONCE, in their order."""
    group: list[Window] = []
    for window in windows:
        if group and sum(len(other.ids) for other in group) + len(window.ids) > TOKENS_AT_ONCE:
            yield group
            group = []
        group.append(window)
    if group:
        yield group


@torch.inference_mode()
def _logprobs(model: Qwen, group: Sequence[Window]) -> list[torch.Tensor]:
    """For each window the log-probabilities of its charged tokens; all windows are one packed row."""
    device = next(model.parameters()).device
    ids = torch.tensor([token for window in group for token in window.ids], device=device)
    positions = torch.cat([torch.arange(len(window.ids), device=device) for window in group])
    hidden = model(ids[None], positions[None])[0]
    starts = torch.tensor([0, *(len(window.ids) for window in group)]).cumsum(0).tolist()
    spans = [range(start + window.first, start + len(window.ids)) for start, window in zip(starts, group, strict=False)]
    charged = torch.tensor([place for span in spans for place in span], dtype=torch.long, device=device)
    parts = charged.split(ROWS_AT_ONCE)
    scores = [-F.cross_entropy(model.logits(hidden[part - 1]).float(), ids[part], reduction="none") for part in parts]
    return list(torch.cat(scores).cpu().split([len(span) for span in spans]))
