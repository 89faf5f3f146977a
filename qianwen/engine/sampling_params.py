"""What a request may ask of the sampler, and the ranges in which it may ask.

    temperature 0     the most likely token, always
    top_k, top_p, min_p   which tokens may be drawn: the k best; the fewest whose mass reaches p; those ≥ min_p · best
    repetition_penalty    divides (below 0 multiplies) the scores of tokens in prompt and output (Keskar et al. 2019)
    presence_, frequency_penalty   subtracted once, or once per occurrence, for tokens of the output (OpenAI)
    seed              the same text again, whatever else is in the batch; None draws one
    logprobs          also report the chosen token's log-probability and those of so many best tokens, before penalties

The order is: mask, bias, penalties, temperature, top_k, top_p, min_p.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qianwen.runtime.errors import RequestError
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
_WHOLE = frozenset(("top_k", "seed", "n", "logprobs", "max_tokens"))
MAX_STOPS, MAX_STOP_LEN, MAX_BIASES = 64, 1024, 1024


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """Checked on construction: RequestError names the field, its value and its range."""

    temperature: float = 1.0
    top_k: int = 0  # tokens; 0 is all
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # token id → added to its score, -100 … 100
    seed: int | None = None
    n: int = 1  # answers to the prompt
    logprobs: int | None = None
    stop: tuple[str, ...] = ()  # texts that end the answer and are not part of it
    stop_token_ids: tuple[int, ...] = ()
    max_tokens: int | None = 512  # new tokens; None is up to the end of the context
    ignore_eos: bool = False  # go on past the end token
    grammar: Grammar | None = None  # constrained output, see constrain.py

    def __post_init__(self) -> None:
        for name in _RANGES:
            self._check(name)
        if self.top_p == 0:
            raise RequestError(tr("{name} = {value} is out of range: above 0, up to 1", name="top_p", value=0))
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        object.__setattr__(self, "stop", stop)
        object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids))
        if len(stop) > MAX_STOPS or not all(isinstance(s, str) and 0 < len(s) <= MAX_STOP_LEN for s in stop):
            raise RequestError(
                tr("stop takes up to {count} texts of 1 to {size} characters", count=MAX_STOPS, size=MAX_STOP_LEN),
                param="stop",
            )
        biases = self.logit_bias.values()
        if len(biases) > MAX_BIASES or not all(_is_number(bias) and -100 <= bias <= 100 for bias in biases):
            raise RequestError(
                tr("logit_bias takes up to {count} values between -100 and 100", count=MAX_BIASES), param="logit_bias"
            )

    def _check(self, name: str) -> None:
        value, (low, high) = getattr(self, name), _RANGES[name]
        if value is None and name in ("seed", "logprobs", "max_tokens"):
            return
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not (is_whole or (name not in _WHOLE and _is_number(value))) or not low <= value <= high:
            kind = tr("a whole number") if name in _WHOLE else tr("a number")
            raise RequestError(
                tr(
                    "{name} = {value!r} is out of range: {kind} from {low} to {high}",
                    name=name,
                    value=value,
                    kind=kind,
                    low=low,
                    high=high,
                ),
                param=name,
            )

    @property
    def is_greedy(self) -> bool:
        """Whether the answer is the most likely token at every step."""
        return self.temperature == 0 or self.top_k == 1

    @property
    def changes_scores(self) -> bool:
        """Whether the scores of a row are changed before anything is drawn from it."""
        return bool(
            self.logit_bias
            or self.repetition_penalty != 1
            or self.presence_penalty
            or self.frequency_penalty
            or self.grammar
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
