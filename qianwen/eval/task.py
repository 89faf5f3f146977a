"""What a task asks of a model, and what it makes of the answers.

A task yields examples of two kinds, `Generate` (lm-eval's generate_until) and `Loglikelihood`, and scores each answer
as named shares: `{"exact_match": Share(1, 1)}` is a hit, `{"bits_per_byte": Share(812.5, 480)}` is 812.5 bits spent on
480 bytes. Results are sums of amounts over sums of counts, so a mean and a rate are the same thing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from qianwen.chat.messages import Message


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Answer a conversation. `facts` is what the task needs to score the answer; the model never sees it."""

    messages: Sequence[Message]
    stop: tuple[str, ...] = ()
    max_tokens: int = 256
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Loglikelihood:
    """How likely is `continuation` after `context`? Without a context it is a whole document, end included."""

    continuation: str
    context: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


Example = Generate | Loglikelihood


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back: a text for `Generate`, a log-probability for `Loglikelihood`."""

    text: str = ""
    is_stopped: bool = False  # ended by itself, not by max_tokens
    logprob: float = 0.0  # nats
    num_tokens: int = 0  # written, or scored


class Share(NamedTuple):
    """An amount out of a count."""

    amount: float
    count: float = 1.0


class Task(Protocol):
    """Anything that asks and scores."""

    name: str

    def examples(self) -> Iterable[Example]:
        """What is asked, always in the same order."""
        ...

    def score(self, example: Any, answer: Answer) -> Mapping[str, Share]:
        """What one answer is worth, by metric; a metric may apply to some examples only."""
        ...
