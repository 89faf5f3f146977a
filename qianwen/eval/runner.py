"""A task put to a model: every example asked, every answer scored, every metric estimated.

Conversations go to any `ChatModel`, several at once where it can (the engine batches whatever is open). Likelihoods
need the weights, so they need an `LLM`.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qianwen.chat.model import ChatModel, Delta
from qianwen.engine.llm import LLM
from qianwen.eval.likelihood import likelihoods
from qianwen.eval.metrics import Estimate, estimate
from qianwen.eval.task import Answer, Example, Generate, Loglikelihood, Share, Task
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.log import progress
from qianwen.runtime.translation import tr

AT_ONCE = 64  # examples open at the same time


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a task found out about a model, with every example and answer."""

    task: str
    metrics: dict[str, Estimate]
    answered: list[tuple[Example, Answer]]


def run_task(task: Task, model: ChatModel, *, limit: int = 0) -> Result:
    """Ask `model` the examples of `task` (the first `limit` of them, if given). Answers are greedy."""
    examples = list(itertools.islice(task.examples(), limit or None))
    if not examples:
        raise ConfigError(tr("{task} has no examples", task=task.name))
    answers = progress(_answers(model, examples), len(examples), task.name)
    answered = list(zip(examples, answers, strict=True))
    shares: dict[str, list[Share]] = {}
    for example, answer in answered:
        for metric, share in task.score(example, answer).items():
            shares.setdefault(metric, []).append(share)
    metrics = {metric: estimate(each) for metric, each in shares.items()}
    return Result(task=task.name, metrics=metrics, answered=answered)


def _answers(model: ChatModel, examples: Sequence[Example]) -> Iterator[Answer]:
    """Answers in the order of the examples, which are opened some at a time to be computed together."""
    for start in range(0, len(examples), AT_ONCE):
        opened = examples[start : start + AT_ONCE]
        replies = [_begin(model, example) for example in opened if isinstance(example, Generate)]
        scored = _scored(model, [example for example in opened if isinstance(example, Loglikelihood)])
        waiting = {Generate: map(_reply, replies), Loglikelihood: iter(scored)}
        for example in opened:
            yield next(waiting[type(example)])


def _begin(model: ChatModel, example: Generate) -> Iterator[Delta]:
    return model.chat(example.messages, stop=example.stop, temperature=0.0, max_tokens=example.max_tokens)


def _reply(deltas: Iterator[Delta]) -> Answer:
    received = list(deltas)
    last = received[-1]
    return Answer(
        text="".join(delta.text for delta in received),
        is_stopped=last.finish_reason == "stop",
        num_tokens=last.usage.completion_tokens if last.usage else 0,
    )


def _scored(model: ChatModel, examples: Sequence[Loglikelihood]) -> list[Answer]:
    if not examples:
        return []
    if not isinstance(model, LLM):
        raise ConfigError(tr("likelihoods need a model that runs here, not one behind a URL"))
    network = model.engine.runner.model
    return likelihoods(network, model.tokenizer, examples, model.engine.max_model_len)
