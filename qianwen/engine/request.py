"""What the engine is asked for: tokens, sampling, and all else that their keys and values depend on.

    Request   a prompt, how its answer is sampled, and what is to be reported of the prompt
    Context   the adapter, the positions, the features and the salt that the prompt is read with

Two requests share cached blocks only where their tokens and their whole contexts are equal: `Context.root` is the hash
that the hashes of all blocks start from (`block_manager.py`). So whatever changes keys and values is a field of
`Context` and nothing else has to know it; what changes neither (sampling, scores, pooling) is a field of `Request`.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from qianwen.engine.sampling_params import SamplingParams
from qianwen.model.long_context import RopeState
from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr

Pooling = Literal["last", "mean"]


@dataclass(frozen=True)
class FeatureSpan:
    """Hidden states [n, H] in place of the embeddings of n tokens from `start` on, as of an image's encoder.

    The tokens there are placeholders of any id. Spans are equal if start and states are; the states are copied to the
    CPU and hashed once, here.
    """

    start: int
    states: Tensor = field(compare=False, repr=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        states = self.states.detach().to("cpu", copy=True).contiguous()
        is_matrix = states.ndim == 2 and states.numel() > 0 and states.is_floating_point()
        if not is_matrix or not states.isfinite().all() or self.start < 0:
            raise RequestError(
                tr("Features need finite numbers [n, hidden_size] and a start in the prompt."), param="features"
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
        """What falls on the tokens [start, end): its first token and the states from there, or None."""
        first, last = max(start, self.start), min(end, self.end)
        return (first, self.states[first - self.start : last - self.start]) if first < last else None


@dataclass(frozen=True)
class Context:
    """All that the keys and values of a prompt depend on, besides its tokens and the weights.

    >>> llm.generate(["你好"], context=Context(adapter="tuned"))
    """

    rope: RopeState | None = None  # None: what the model's configuration asks for a prompt of this length
    adapter: str = ""  # whose changes of the weights it is computed with; empty: none
    salt: str = ""  # only requests of the same salt share cached prompts, so nobody times another's
    features: tuple[FeatureSpan, ...] = ()

    def __post_init__(self) -> None:
        spans = tuple(sorted(self.features, key=lambda span: span.start))
        object.__setattr__(self, "features", spans)
        if any(span.end > following.start for span, following in pairwise(spans)):
            raise RequestError(tr("Two spans of features overlap."), param="features")

    @functools.cached_property
    def root(self) -> bytes:
        """A cryptographic hash of all fields, computed once."""
        values = [(each.name, getattr(self, each.name)) for each in fields(self)]
        return hashlib.blake2b(repr(values).encode(), digest_size=16).digest()


DEFAULT_CONTEXT = Context()


@dataclass(frozen=True)
class Request:
    """A prompt of token ids and what is wanted of it."""

    tokens: tuple[int, ...]
    params: SamplingParams = field(hash=False)
    context: Context = DEFAULT_CONTEXT
    score_from: int | None = None  # report log-probabilities of the prompt's tokens from this one on; not of the first
    pooling: Pooling | None = None  # report an embedding of the prompt: its last token's state, or the mean of all

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", tuple(self.tokens))

    def with_rope(self, rope: RopeState) -> Request:
        """The same under `rope`, unless its context names one."""
        return self if self.context.rope else replace(self, context=replace(self.context, rope=rope))


def check_tokens(tokens: Iterable[int], params: SamplingParams, vocab_size: int, max_model_len: int) -> None:
    """RequestError if a model of this vocabulary and context cannot serve such a prompt."""
    tokens = list(tokens)
    if not tokens:
        raise RequestError(tr("The prompt is empty: give at least one token."), param="prompt")
    known = {*params.logit_bias, *params.stop_token_ids, min(tokens), max(tokens)}
    wrong = next((token for token in known if not 0 <= token < vocab_size), None)
    if wrong is not None:
        raise RequestError(tr("Token id {id} is not in the vocabulary of {size} tokens.", id=wrong, size=vocab_size))
    if len(tokens) > max_model_len - (params.max_tokens != 0):
        raise RequestError(
            tr(
                "The prompt has {count} tokens, and the context {size}: shorten it or leave out old turns.",
                count=len(tokens),
                size=max_model_len,
            ),
            param="prompt",
            code="context_length_exceeded",
        )


def check_features(request: Request, hidden_size: int) -> None:
    """RequestError if features reach beyond the prompt or are of another model's width."""
    for span in request.context.features:
        if span.end > len(request.tokens) or span.states.size(1) != hidden_size:
            raise RequestError(
                tr(
                    "Features {shape} from token {start} on do not fit a prompt of {count} tokens of width {width}.",
                    shape=list(span.states.shape),
                    start=span.start,
                    count=len(request.tokens),
                    width=hidden_size,
                ),
                param="features",
            )
