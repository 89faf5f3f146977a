"""Scoring of texts: log-likelihoods, which the whole package computes here, and embeddings.

    log p(continuation | context) = Σ log p(token | all tokens before it)
    log p(document)               the same for every token but the first, in windows of the model's length
    log p(token | context)        of a few possible next tokens, such as the letters of a question, in one request

All are ordinary requests to the engine: contexts with the same prefix share its blocks, and only the states that
predict a scored token go through the head. An embedding is the hidden state of the last token, or the mean over all
tokens, with norm 1.

How the first token and the end of a document are counted is in `eval/likelihood.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from qianwen.engine.llm import LLM
from qianwen.engine.request import DEFAULT_CONTEXT, Context, Pooling
from qianwen.engine.sampling_params import SamplingParams


@dataclass(frozen=True)
class Likelihood:
    """Log-probabilities of the scored tokens, in nats, and whether each token was the most likely one."""

    logprobs: tuple[float, ...]
    is_greedy: bool

    @property
    def total(self) -> float:
        return sum(self.logprobs, 0.0)


def loglikelihoods(llm: LLM, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Likelihood]:
    """The likelihood of the continuation in each (context, continuation) pair of token ids.

    An empty context means the beginning of a document. RequestError for a pair longer than the model's context.
    """
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


def next_token_logprobs(llm: LLM, contexts: Sequence[Sequence[int]], token_ids: Sequence[int]) -> np.ndarray:
    """Log-probabilities [N, C] of C possible next tokens after each of N contexts of token ids, in nats."""
    params = SamplingParams(max_tokens=1, temperature=0, logprob_token_ids=tuple(token_ids))
    streams = [llm.stream(context, params) for context in contexts]
    answers = [stream.result().outputs[0] for stream in streams]
    return np.array([[logprob for _, logprob in answer.logprobs[0].top] for answer in answers])


def document_loglikelihoods(llm: LLM, documents: Sequence[Sequence[int]]) -> list[Likelihood]:
    """The likelihood of each document of token ids, without its first token, which has no context.

    A document longer than the model's context is scored in windows. Each window begins with the last token of the
    previous window, so every token is scored once.
    """
    windows = [list(_windows(document, llm.engine.max_model_len)) for document in documents]
    scored = iter(loglikelihoods(llm, [(ids[:1], ids[1:]) for each in windows for ids in each]))
    return [_joined(list(islice(scored, len(each)))) for each in windows]


def _windows(document: Sequence[int], max_len: int) -> Iterator[Sequence[int]]:
    """Windows of up to `max_len` tokens; two neighbours share one token."""
    for start in range(0, len(document) - 1, max_len - 1):
        yield document[start : start + max_len]


def _joined(parts: Sequence[Likelihood]) -> Likelihood:
    logprobs = tuple(logprob for part in parts for logprob in part.logprobs)
    return Likelihood(logprobs, all(part.is_greedy for part in parts))


def embed(
    llm: LLM, texts: Sequence[Sequence[int]], pooling: Pooling = "last", *, context: Context = DEFAULT_CONTEXT
) -> np.ndarray:
    """Embeddings [N, H] of N texts of token ids, each with norm 1."""
    params = SamplingParams(max_tokens=0)
    streams = [llm.stream(text, params, context=context, pooling=pooling) for text in texts]
    return np.stack([stream.result().embedding for stream in streams])  # type: ignore[misc]  # set, because of `pooling`
