"""The sampling parameters of a request, and their valid ranges.

    temperature 0     greedy decoding: always the most likely token
    top_k, top_p, min_p   draw from the k best; from the fewest whose mass reaches p; from those ≥ min_p · best
    repetition_penalty    divides positive and multiplies negative scores of seen tokens (Keskar et al. 2019)
    presence_, frequency_penalty   subtracted once, or once per occurrence, for tokens of the output (OpenAI)
    seed              the same seed gives the same text, with `batch_invariant` in every batch; None: a random seed
    logprobs          report the log-probability of the chosen token and of this many best tokens, before penalties
    logprob_token_ids     report the log-probabilities of these tokens instead of the best ones

The order of application is: bias, penalties, grammar mask, temperature, top_k, top_p, min_p.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qianwen.runtime.errors import RequestError, excerpt
from qianwen.runtime.translation import tr

if TYPE_CHECKING:
    from qianwen.engine.constrain import Grammar

_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 100.0),
    "top_k": (0, math.inf),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.01, 100.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "seed": (-(2**63), 2**64 - 1),
    "n": (1, 128),
    "logprobs": (0, 20),
    "max_tokens": (0, math.inf),
}
_INTEGERS = frozenset(("top_k", "seed", "n", "logprobs", "max_tokens"))
MAX_STOPS, MAX_STOP_LEN, MAX_BIASES = 64, 1024, 1024
MAX_ID_DIGITS = 10


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """Sampling parameters, checked on construction: a RequestError names the field, its value and its range."""

    temperature: float = 1.0
    top_k: int = 0  # number of tokens; 0: all
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # token id → number added to its score, -100 … 100
    seed: int | None = None
    n: int = 1  # number of answers to the prompt
    logprobs: int | None = None
    logprob_token_ids: tuple[int, ...] = ()
    stop: tuple[str, ...] = ()  # strings that end the answer and are not part of it
    stop_token_ids: tuple[int, ...] = ()
    max_tokens: int | None = 512  # maximum number of new tokens; None: up to the end of the context
    ignore_eos: bool = False  # continue after the end token
    grammar: Grammar | None = None  # constrained output (constrain.py)

    def __post_init__(self) -> None:
        for name in _RANGES:
            self._check(name)
        if self.top_p == 0:
            raise RequestError(
                tr("{name} = {value} is out of range: it must be above 0 and at most 1", name="top_p", value=0)
            )
        if not isinstance(self.ignore_eos, bool):
            message = "{name} = {value} is not valid: it must be true or false"
            raise RequestError(tr(message, name="ignore_eos", value=excerpt(self.ignore_eos)), param="ignore_eos")
        if self.grammar is not None and not hasattr(self.grammar, "matcher"):
            message = "grammar cannot be set by a value; use a response format or a forced tool call"
            raise RequestError(tr(message), param="grammar")
        object.__setattr__(self, "stop", _stop_strings(self.stop))
        object.__setattr__(self, "stop_token_ids", _token_ids(self.stop_token_ids))
        object.__setattr__(self, "logprob_token_ids", tuple(self.logprob_token_ids))
        object.__setattr__(self, "logit_bias", _biases(self.logit_bias))

    def _check(self, name: str) -> None:
        value, (low, high) = getattr(self, name), _RANGES[name]
        if value is None and name in ("seed", "logprobs", "max_tokens"):
            return
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        if not (is_integer or (name not in _INTEGERS and _is_number(value))) or not low <= value <= high:
            kind = tr("an integer") if name in _INTEGERS else tr("a number")
            raise RequestError(
                tr(
                    "{name} = {value} is out of range: it must be {kind} from {low} to {high}",
                    name=name,
                    value=excerpt(value),
                    kind=kind,
                    low=low,
                    high=high,
                ),
                param=name,
            )

    @property
    def is_greedy(self) -> bool:
        """Whether each token is the most likely one, without sampling."""
        return self.temperature == 0 or self.top_k == 1

    @property
    def changes_scores(self) -> bool:
        """Whether bias, penalties or a grammar change the scores before a token is chosen."""
        return bool(
            self.logit_bias
            or self.repetition_penalty != 1
            or self.presence_penalty
            or self.frequency_penalty
            or self.grammar
        )


def _stop_strings(stop: Any) -> tuple[str, ...]:
    texts = (stop,) if isinstance(stop, str) else tuple(stop) if isinstance(stop, (list, tuple)) else (stop,)
    if len(texts) > MAX_STOPS or not all(isinstance(text, str) and 0 < len(text) <= MAX_STOP_LEN for text in texts):
        message = "stop accepts up to {count} strings of 1 to {size} characters"
        raise RequestError(tr(message, count=MAX_STOPS, size=MAX_STOP_LEN), param="stop")
    return texts


def _token_ids(ids: Any) -> tuple[int, ...]:
    is_list = isinstance(ids, (list, tuple))
    if not is_list or not all(isinstance(token, int) and not isinstance(token, bool) for token in ids):
        message = "{name} must be a list of token ids; got {value}"
        raise RequestError(tr(message, name="stop_token_ids", value=excerpt(ids)), param="stop_token_ids")
    return tuple(ids)


def _biases(biases: Any) -> dict[int, float]:
    """The biases by token id. The keys of a JSON object are strings, so the digits of an id are accepted too."""
    is_valid = isinstance(biases, Mapping) and len(biases) <= MAX_BIASES
    if not is_valid or not all(_is_number(bias) and -100 <= bias <= 100 for bias in biases.values()):
        message = "logit_bias accepts up to {count} numbers from -100 to 100"
        raise RequestError(tr(message, count=MAX_BIASES), param="logit_bias")
    by_id = {}
    for key, bias in biases.items():
        is_digits = isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) <= MAX_ID_DIGITS
        if not is_digits and (not isinstance(key, int) or isinstance(key, bool)):
            message = "logit_bias: {key} is not a token id; write its number, as in {example}"
            raise RequestError(tr(message, key=excerpt(key), example='{"9707": -100}'), param="logit_bias")
        by_id[int(key)] = bias
    return by_id


def _is_number(value: Any) -> bool:
    """Whether `value` is a number, and not one of the three that JSON does not have (NaN and the infinities)."""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return is_integer or (isinstance(value, float) and math.isfinite(value))
