"""What a model thinks of given text: log-likelihoods of continuations, and embeddings.

    log p(continuation | context) = Σ log p(token | all before it)

Both run through the engine like any request: questions that share a few-shot prompt share its blocks, and only the
states that foretell the continuation go through the head. An embedding is the last token's hidden state or the mean of
all, of length 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qianwen.engine.llm import LLM
from qianwen.engine.request import DEFAULT_CONTEXT, Context, Pooling
from qianwen.engine.sampling_params import SamplingParams


@dataclass(frozen=True)
class Likelihood:
    """Of one continuation: its tokens' log-probabilities, and whether each was the most likely."""

    logprobs: tuple[float, ...]
    is_greedy: bool

    @property
    def total(self) -> float:
        return sum(self.logprobs)


def loglikelihoods(llm: LLM, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Likelihood]:
    """For each (context, continuation) of token ids. An empty context counts as the beginning of a document."""
    streams = []
    for context, continuation in pairs:
        before = list(context) or [llm.tokenizer.eod_id]
        params = SamplingParams(max_tokens=0)
        streams.append(llm.stream([*before, *continuation], params, score_from=len(before)))
    likelihoods = []
    for stream in streams:
        scored = stream.result().prompt_logprobs
        is_greedy = all(item.token == item.top[0][0] for item in scored)
        likelihoods.append(Likelihood(tuple(item.logprob for item in scored), is_greedy))
    return likelihoods


def embed(
    llm: LLM, texts: Sequence[Sequence[int]], pooling: Pooling = "last", *, context: Context = DEFAULT_CONTEXT
) -> np.ndarray:
    """Embeddings [N, H] of texts of token ids, each of length 1."""
    params = SamplingParams(max_tokens=0)
    streams = [llm.stream(text, params, context=context, pooling=pooling) for text in texts]
    return np.stack([stream.result().embedding for stream in streams])  # type: ignore[misc]  # pooling was asked for
