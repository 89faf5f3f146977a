"""What a task asks of a model, and how it scores the answers.

A task yields examples, scores each answer (`Score`) and makes estimates of all scores (`metrics.py`). The kinds of
examples, and what each needs of a model:

    Generate         an answer to a conversation, which may offer functions     a chat model
    Complete         the text that follows a prompt, without a chat template    a model that runs here
    Choice           how likely each of a few next tokens is, in one request    a model that runs here
    Loglikelihood    how likely a given text is                                 a model that runs here
    Windows          how likely a document is, read in windows  a model that runs here
    Tokenize         how many tokens texts have                                 a model that runs here
    Episode          a conversation whose next message depends on each reply    a chat model

Generated answers are greedy unless the example sets `sampling`, and `num_samples` of them are drawn.
`cluster` names what an example shares with others, such as a passage or a subject: the answers of a cluster are not
independent, so intervals resample whole clusters. By default each example is its own cluster.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from qianwen.chat.messages import FunctionSpec, Message, ToolCall
from qianwen.eval.metrics import Estimate, Shares, estimate
from qianwen.tokenizer.tokenizer import Tokenizer

Need = Literal["chat", "completion", "likelihood", "tokenizer"]
Verdict = Literal["right", "wrong", "unparsed", "unjudged"]


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
    cluster: str = ""


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
    cluster: str = ""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which of `choices` comes after `context`? Each choice must be one token there, such as " A".

    A context of more than `max_tokens` tokens loses its beginning: its last `max_tokens` - 1 tokens are used, as in
    Qwen's released MMLU script.
    """

    needs: ClassVar[Need] = "likelihood"
    context: str
    choices: tuple[str, ...]
    max_tokens: int = 0  # 0: never cut
    facts: Mapping[str, Any] = field(default_factory=dict)
    cluster: str = ""


@dataclass(frozen=True, kw_only=True)
class Loglikelihood:
    """How likely is `continuation` after `context`? Without a context it is a whole document, end included."""

    needs: ClassVar[Need] = "likelihood"
    continuation: str
    context: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    cluster: str = ""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How likely are the first `longest` tokens of `text`, read in windows of `length`? See `length_windows.py`."""

    needs: ClassVar[Need] = "likelihood"
    text: str
    length: int
    shortest: int  # of all lengths at which the text is read
    longest: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    cluster: str = ""


@dataclass(frozen=True, kw_only=True)
class Tokenize:
    """How many tokens `texts` have, each encoded by itself. The network is not used."""

    needs: ClassVar[Need] = "tokenizer"
    texts: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    cluster: str = ""


Respond = Callable[[Message], Sequence[Message] | Shares]  # the next messages, or the score that ends the episode


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
    cluster: str = ""


Example = Generate | Complete | Choice | Loglikelihood | Windows | Tokenize | Episode


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The result of one example: a text and calls of functions, a log-probability, or a conversation with its score."""

    text: str = ""  # of an episode: the last reply
    tool_calls: tuple[ToolCall, ...] = ()
    is_stopped: bool = False  # ended by itself, not by max_tokens; of an episode: it has a score
    logprob: float = 0.0  # nats
    choice_logprobs: tuple[float, ...] = ()  # of a Choice: nats, one for each choice
    num_tokens: int = 0  # written, scored, or counted
    further: tuple["Answer", ...] = ()  # the samples after the first
    conversation: tuple[Message, ...] = ()  # of an episode, from its first message on
    shares: Shares = field(default_factory=dict)  # of an episode: its score; of windows: all, and the last quarter

    @property
    def samples(self) -> tuple["Answer", ...]:
        """All samples of the example, this one first."""
        return (self, *self.further)


@dataclass(frozen=True, kw_only=True)
class Score:
    """The score of one answer: its shares by metric, what was read out of it, and whether that is right."""

    shares: Shares
    extracted: str | None = None  # the letter, number or program that the reader found; None: it found nothing
    is_right: bool | None = None  # None: there is no right and wrong, as for bits per byte

    @property
    def verdict(self) -> Verdict:
        """`unparsed`: wrong because nothing could be read out of the answer."""
        if self.is_right is None:
            return "unjudged"
        return "right" if self.is_right else "wrong" if self.extracted is not None else "unparsed"


class Scored(NamedTuple):
    """An example with its answer and score."""

    example: Example
    answer: Answer
    score: Score


class PromptModel(NamedTuple):
    """What a task must know of the model in order to write prompts of a given length."""

    tokenizer: Tokenizer
    is_chat: bool
    max_len: int  # tokens of prompt and answer


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What the user chose for a task: where its data is, and how it is asked."""

    data: Path  # a folder of benchmarks, or the file or folder of this one
    shots: int | None = None  # worked examples before the question; None: as published
    num_samples: int = 1  # answers to each question, for pass@k
    sandbox: str = "auto"  # the isolation for programs that the model wrote
    lengths: tuple[int, ...] = ()  # tokens of prompt and answer, for tasks with texts of many lengths; empty: theirs
    languages: tuple[str, ...] = ()  # of such texts; empty: all that the task has
    model: Callable[[], PromptModel] | None = None  # reads the files of the model; None: it is behind a URL


class Task(Protocol):
    """A source of examples that scores the answers to them."""

    name: str
    chance: float | None = None  # the expected value of the first metric for random guessing

    def examples(self) -> Iterable[Example]:
        """The examples, always in the same order."""
        ...

    def score(self, example: Any, answer: Answer) -> Score:
        """The score of one answer; a metric may apply to some examples only. Called from several threads."""
        ...

    def settings(self) -> Mapping[str, Any]:
        """What a reader must know to repeat the numbers: protocol, prompt template, shots, extractor, data."""
        return {}

    def estimates(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        """The metrics of all scores, the main one first: by default the ratio of the sums of the shares."""
        shares: dict[str, list[tuple[str, Any]]] = {}
        for number, (example, _, score) in enumerate(scored):
            for metric, share in score.shares.items():
                shares.setdefault(metric, []).append((example.cluster or str(number), share))
        return {
            metric: estimate([share for _, share in each], clusters=[cluster for cluster, _ in each])
            for metric, each in shares.items()
        }

    def order(self, example: Any) -> tuple[float | str, ...]:
        """A sort key: in which order examples are asked. Equal ones are ordered by their prompts (`runner.py`)."""
        return ()

    def files(self, scored: Sequence[Scored]) -> Mapping[str, str]:
        """Further files for the results folder, as {name: text}, such as one to be submitted to a leaderboard."""
        return {}
