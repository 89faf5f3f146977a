"""A request to the engine: the tokens of a prompt, its sampling parameters, and its context.

    Request   a prompt, its sampling parameters, how it extends the trained length, and what to report of the prompt
    Context   the adapter, the rotation of positions, the features and the salt of the prompt

Two requests share cached blocks only if their tokens and all fields of their contexts are equal: `Context.root` is the
hash that the hashes of all blocks start from (`block_manager.py`). So everything that changes keys and values is a
field of `Context`, and no other code needs a rule for it. What does not change them (sampling, scores, pooling) is a
field of `Request`.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from qianwen.engine.sampling_params import SamplingParams
from qianwen.model.long_context import AS_CONFIGURED, LongContext
from qianwen.model.rope_state import RopeState
from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr

Pooling = Literal["last", "mean"]


@dataclass(frozen=True)
class FeatureSpan:
    """Hidden states [n, H] that replace the embeddings of n tokens from `start` on, for example from an image encoder.

    The tokens there are placeholders with any id. Two spans are equal if their start and states are equal. The states
    are copied to the CPU and hashed once, on construction.
    """

    start: int
    states: Tensor = field(compare=False, repr=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        states = self.states.detach().to("cpu", copy=True).contiguous()
        is_matrix = states.ndim == 2 and states.numel() > 0 and states.is_floating_point()
        if not is_matrix or not states.isfinite().all() or self.start < 0:
            raise RequestError(
                tr("features must be finite numbers of shape [n, hidden_size], with start >= 0"), param="features"
            )
        kind = f"{states.dtype} {tuple(states.shape)}".encode()
        content = states.view(torch.uint8).numpy().tobytes()
        object.__setattr__(self, "start", int(self.start))
        object.__setattr__(self, "states", states)
        object.__setattr__(self, "digest", hashlib.blake2b(kind + content, digest_size=16).hexdigest())

    @property
    def end(self) -> int:
        return self.start + len(self.states)

    def overlap(self, start: int, end: int) -> tuple[int, Tensor] | None:
        """The part for the tokens [start, end): the position of its first token and its states, or None."""
        first, last = max(start, self.start), min(end, self.end)
        return (first, self.states[first - self.start : last - self.start]) if first < last else None


@dataclass(frozen=True)
class Context:
    """Everything that the keys and values of a prompt depend on, besides its tokens and the weights.

    >>> llm.generate(["你好"], context=Context(adapter="tuned"))
    """

    rope: RopeState | None = None  # None: the rotation that the model's configuration gives for this length
    adapter: str = ""  # name of the adapter; empty: none
    salt: str = ""  # only requests with the same salt share cached prompts, so response times reveal nothing of others
    features: tuple[FeatureSpan, ...] = ()

    def __post_init__(self) -> None:
        spans = tuple(sorted(self.features, key=lambda span: span.start))
        object.__setattr__(self, "features", spans)
        if any(span.end > following.start for span, following in pairwise(spans)):
            raise RequestError(tr("two spans of features overlap: give each token at most one"), param="features")

    @functools.cached_property
    def root(self) -> bytes:
        """A cryptographic hash of all fields; computed once."""
        values = [(each.name, getattr(self, each.name)) for each in fields(self)]
        return hashlib.blake2b(repr(values).encode(), digest_size=16).digest()


DEFAULT_CONTEXT = Context()


@dataclass(frozen=True)
class Request:
    """A prompt of token ids, and what to compute for it."""

    tokens: tuple[int, ...]
    params: SamplingParams = field(hash=False)
    context: Context = DEFAULT_CONTEXT
    score_from: int | None = None  # report log-probabilities of the prompt from this position on (never of position 0)
    pooling: Pooling | None = None  # report an embedding of the prompt: the state of its last token, or the mean of all
    extension: LongContext = AS_CONFIGURED  # how the rotation is chosen if the context has none

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", tuple(self.tokens))


def check_tokens(tokens: Iterable[int], params: SamplingParams, vocab_size: int, max_model_len: int) -> None:
    """RequestError if the prompt is empty, is too long, or has ids outside the vocabulary."""
    tokens = list(tokens)
    if not tokens:
        raise RequestError(tr("the prompt is empty: give at least one token"), param="prompt")
    ids = {*params.logit_bias, *params.stop_token_ids, *params.logprob_token_ids, min(tokens), max(tokens)}
    unknown = next((token for token in ids if not 0 <= token < vocab_size), None)
    if unknown is not None:
        raise RequestError(tr("token id {id} is not in the vocabulary of {size} tokens", id=unknown, size=vocab_size))
    if len(tokens) > max_model_len - (params.max_tokens != 0):
        raise RequestError(
            tr(
                "the prompt has {count} tokens, but the context is {size}: shorten the prompt or leave out old turns",
                count=len(tokens),
                size=max_model_len,
            ),
            param="prompt",
            code="context_length_exceeded",
        )


def check_features(request: Request, hidden_size: int) -> None:
    """RequestError if features end after the prompt or have another width than the model."""
    for span in request.context.features:
        if span.end > len(request.tokens) or span.states.size(1) != hidden_size:
            raise RequestError(
                tr(
                    "features {shape} at token {start} do not fit a prompt of {count} tokens with hidden size {width}",
                    shape=list(span.states.shape),
                    start=span.start,
                    count=len(request.tokens),
                    width=hidden_size,
                ),
                param="features",
            )
