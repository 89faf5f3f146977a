"""How long the texts of an engine may be: its context, and what the method of each request covers.

    loading   a context above what the weights and the method cover is refused, and the error names what covers it
    request   prompt and answer end at the context of the engine or at the end of what the request's method covers
    note      one line for a user whose text has passed the trained length

The method of a request is its `LongContext` (`model/long_context.py`). Texts up to the trained length are the same with
every method. How much fits in memory is in `context_size.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from qianwen.model.config import QwenConfig
from qianwen.model.long_context import (
    AS_CONFIGURED,
    NTK_REACH,
    LongContext,
    covered_len,
    extension_for,
    method_beyond,
    proposed_extensions,
    rope_state,
)
from qianwen.model.rope_state import RopeMethod
from qianwen.runtime.errors import ConfigError, RequestError
from qianwen.runtime.translation import tr


def method_name(method: RopeMethod) -> str:
    """The name of a method in a sentence."""
    names = {"dynamic_ntk": tr("dynamic NTK"), "linear": tr("linear interpolation"), "llama3": tr("Llama 3 scaling")}
    return names.get(method, "YaRN")


def model_limit(config: QwenConfig, extension: LongContext, requested: int = 0) -> int:
    """The longest text if `requested` tokens are wanted; 0: the length in the model's files, or what the method covers.

    ConfigError if the method does not fit the model, or does not cover the requested length.
    """
    method_beyond(config, extension)
    covered = covered_len(config, extension)
    if requested <= covered:
        return requested or min(covered, config.max_position_embeddings)
    values = {"method": extension.rope, "limit": covered, "tokens": requested}
    other = extension_for(config, requested) or proposed_extensions(config)[-1]
    if covered_len(config, other) <= covered:
        message = (
            "with rope {method} this model covers {limit:,} tokens, not {tokens:,}, and no method covers so many: "
            "use --context {limit} or less"
        )
        raise ConfigError(tr(message, **values))
    message = (
        "with rope {method} this model covers {limit:,} tokens, not {tokens:,}: use --context {limit} or less, or "
        "--rope {other}, which covers {reach:,}"
    )
    raise ConfigError(tr(message, **values, other=other.rope, reach=covered_len(config, other)))


@dataclass(frozen=True)
class TextLimits:
    """The limits of one engine. `extension` is the method of requests that choose none."""

    config: QwenConfig
    extension: LongContext
    max_model_len: int

    def context_note(self, requested: int) -> str:
        """One line if a method was chosen that covers longer texts, but no context was `requested`; else empty."""
        reach = covered_len(self.config, self.extension)
        if requested or self.extension.rope in ("auto", "none") or reach <= self.max_model_len:
            return ""
        message = "rope {method} covers {reach:,} tokens, but the context is {size:,}: use --context for longer texts"
        return tr(message, method=self.extension.rope, reach=reach, size=self.max_model_len)

    def longest(self, extension: LongContext | None) -> int:
        """The largest number of tokens of prompt and answer in a request; None: it has a rotation of its own."""
        return self.max_model_len if extension is None else min(self.max_model_len, covered_len(self.config, extension))

    def check(self, num_prompt_tokens: int, num_answer_tokens: int, extension: LongContext | None) -> None:
        """RequestError if a prompt with this part of its answer is too long, or the method does not fit the model."""
        try:
            rope_state(self.config, num_prompt_tokens, extension or AS_CONFIGURED)
        except ConfigError as error:
            raise RequestError(str(error), param="rope") from None
        num_tokens, limit = num_prompt_tokens + num_answer_tokens, self.longest(extension)
        if num_tokens > limit:
            message = (
                "the prompt has {count} tokens, but the context is {size}: shorten the prompt or leave out old turns"
            )
            text = self.with_remedy(tr(message, count=num_prompt_tokens, size=limit), num_tokens)
            raise RequestError(text, param="prompt", code="context_length_exceeded")

    def with_remedy(self, message: str, num_tokens: int) -> str:
        """A message that a text is too long, and which method would cover its `num_tokens`, if one does."""
        other = extension_for(self.config, num_tokens)
        if num_tokens <= self.max_model_len:  # then the method of the engine covers it
            other = other or self.extension
            template = "{message}; rope {method} covers {reach:,} tokens here"
            return tr(template, message=message, method=other.rope, reach=self.longest(other))
        if other is None:
            return message
        values = {"reach": covered_len(self.config, other), "tokens": num_tokens}
        if other == AS_CONFIGURED:
            template = "{message}; this model covers {reach:,} tokens: load it with --context {tokens}"
            return tr(template, message=message, **values)
        template = (
            "{message}; rope {method} covers {reach:,} tokens: load the model with --rope {method} --context {tokens}"
        )
        return tr(template, message=message, method=other.rope, **values)

    @property
    def method(self) -> RopeMethod:
        """What extends the trained length, unless a request chooses something else."""
        return method_beyond(self.config, self.extension)

    def note(self, num_tokens: int) -> str:
        """One line on a text beyond the trained length: what extends it, and what is known of its quality."""
        if num_tokens <= self.config.train_len:
            return ""
        return tr("beyond the trained {tokens:,} tokens: {how}", tokens=self.config.train_len, how=self._how())

    def _how(self) -> str:
        method, factor = self.method, self.extension.factor
        if method == "none":
            return tr("no method extends it")
        name = method_name(method)
        if method == "dynamic_ntk":
            message = "extended by {name}; quality is measured up to {reach}×"
            return tr(message, name=name, reach=NTK_REACH)
        if self.extension.rope == "auto":
            return tr("extended by {name}, as the model's files say", name=name)
        message = "extended by {name} up to {factor:g}×; quality is not measured"
        return tr(message, name=name, factor=factor)
