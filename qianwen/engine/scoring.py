"""What a model thinks of given text: log-likelihoods of continuations, and embeddings.

    log p(continuation | context) = Σ log p(token | all before it)

Likelihoods run through the engine like any request: questions that share a few-shot prompt share its blocks, and only
the states that foretell the continuation go through the head. An embedding is the last token's hidden state or the
mean of all, of length 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import LLMEngine
from qianwen.engine.params import SamplingParams
from qianwen.runtime.errors import RequestError
from qianwen.runtime.language import tr

Pooling = Literal["last", "mean"]
PACKED_TOKENS = 2048  # of several texts in one forward


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


def embed(engine: LLMEngine, ids: Sequence[int], pooling: Pooling = "last", adapter: str = "") -> np.ndarray:
    """The embedding [H] of one text of token ids."""
    return embed_batch(engine, [ids], pooling, adapter)[0]


def embed_batch(
    engine: LLMEngine, texts: Sequence[Sequence[int]], pooling: Pooling = "last", adapter: str = ""
) -> np.ndarray:
    """Embeddings [N, H] of texts of token ids, packed into as few forwards as keep memory small."""
    vectors = []
    for batch in _batches(engine, texts):
        for states in engine.runner.read(batch, adapter):
            vector = states[-1] if pooling == "last" else states.mean(axis=0)
            vectors.append(vector / max(float(np.linalg.norm(vector)), 1e-12))
    return np.stack(vectors)


def _batches(engine: LLMEngine, texts: Sequence[Sequence[int]]) -> Iterator[list[list[int]]]:
    batch: list[list[int]] = []
    for text in texts:
        if not 0 < len(text) <= engine.max_model_len:
            raise RequestError(
                tr("A text to embed has {count} tokens; 1 to {size} fit.", count=len(text), size=engine.max_model_len),
                param="input",
                code="context_length_exceeded" if text else None,
            )
        if batch and sum(map(len, batch)) + len(text) > PACKED_TOKENS:
            yield batch
            batch = []
        batch.append(list(text))
    if batch:
        yield batch
