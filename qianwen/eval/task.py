"""What a task asks of a model, and how it scores the answers.

A task yields examples and scores each answer as named shares: `{"exact_match": Share(1, 1)}` is a correct answer,
`{"bits_per_byte": Share(812.5, 480)}` is 812.5 bits for 480 bytes. Results are sums of amounts over sums of counts, so
a mean and a rate are the same thing. The kinds of examples, and what each needs of a model:

    Generate         an answer to a conversation, which may offer functions     a chat model
    Complete         the text that follows a prompt, without a chat template    a model that runs here
    Loglikelihood    how likely a given text is                                 a model that runs here
    Episode          a conversation whose next message depends on each reply    a chat model

Generated answers are greedy unless the example sets `sampling`, and `num_samples` of them are drawn.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from qianwen.chat.messages import FunctionSpec, Message, ToolCall

Need = Literal["chat", "completion", "likelihood"]


class Share(NamedTuple):
    """An amount out of a count."""

    amount: float
    count: float = 1.0


Shares = Mapping[str, Share]


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Answer a conversation. `facts` is what the task needs to score the answer; the model never sees it."""

    needs: ClassVar[Need] = "chat"
    messages: Sequence[Message]
    functions: Sequence[FunctionSpec] = ()
    stop: tuple[str, ...] = ()
    max_tokens: int = 256
    num_samples: int = 1
    sampling: Mapping[str, Any] = field(default_factory=dict)  # fields of the engine's SamplingParams; empty: greedy
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Complete:
    """Continue `prompt` as it is, up to a text of `stop`, which is not part of the answer."""

    needs: ClassVar[Need] = "completion"
    prompt: str
    stop: tuple[str, ...] = ()
    max_tokens: int = 256
    num_samples: int = 1
    sampling: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Loglikelihood:
    """How likely is `continuation` after `context`? Without a context it is a whole document, end included."""

    needs: ClassVar[Need] = "likelihood"
    continuation: str
    context: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


Respond = Callable[[Message], Sequence[Message] | Shares]


@dataclass(frozen=True, kw_only=True)
class Episode:
    """A conversation that a function leads: it reads each reply and returns the next messages, or the score.

    `begin` makes that function, with a state of its own, so an episode can be run any number of times. After
    `max_turns` replies without a score the episode ends with none.
    """

    needs: ClassVar[Need] = "chat"
    messages: Sequence[Message]  # up to the model's first reply
    begin: Callable[[], Respond]
    functions: Sequence[FunctionSpec] = ()
    stop: tuple[str, ...] = ()
    max_tokens: int = 256  # of one reply
    max_turns: int = 8
    sampling: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


Example = Generate | Complete | Loglikelihood | Episode


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The result of one example: a text and calls of functions, a log-probability, or a conversation with its score."""

    text: str = ""  # of an episode: the last reply
    tool_calls: tuple[ToolCall, ...] = ()
    is_stopped: bool = False  # ended by itself, not by max_tokens; of an episode: it has a score
    logprob: float = 0.0  # nats
    num_tokens: int = 0  # written, or scored
    further: tuple["Answer", ...] = ()  # the samples after the first
    conversation: tuple[Message, ...] = ()  # of an episode, from its first message on
    shares: Shares = field(default_factory=dict)  # of an episode: its score

    @property
    def samples(self) -> tuple["Answer", ...]:
        """All samples of the example, this one first."""
        return (self, *self.further)


class Task(Protocol):
    """A source of examples that scores the answers to them."""

    name: str

    def examples(self) -> Iterable[Example]:
        """The examples, always in the same order."""
        ...

    def score(self, example: Any, answer: Answer) -> Shares:
        """The shares of one answer, by metric; a metric may apply to some examples only."""
        ...
