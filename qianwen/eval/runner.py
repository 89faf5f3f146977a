"""A task put to a model: every example asked, every answer scored, every metric estimated.

Conversations go to any `ChatModel`; completions and likelihoods need an `LLM`. A model that lacks what a task needs is
refused before the first question. Many examples are open at the same time, and the engine computes them together.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qianwen.chat.messages import Message
from qianwen.chat.model import ChatModel, Delta
from qianwen.chat.templates.choose import template_source
from qianwen.engine.llm import LLM, CompletionOutput
from qianwen.eval.likelihood import choose, likelihoods
from qianwen.eval.metrics import Estimate
from qianwen.eval.task import (
    Answer,
    Choice,
    Complete,
    Episode,
    Example,
    Generate,
    Loglikelihood,
    Respond,
    Scored,
    Task,
)
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.log import progress
from qianwen.runtime.translation import tr

AT_ONCE = 64  # examples open at the same time
GREEDY = {"temperature": 0.0}


@dataclass(frozen=True, kw_only=True)
class Result:
    """The metrics of a model on a task, with every example and answer."""

    task: str
    metrics: dict[str, Estimate]
    scored: list[Scored]


def run_task(task: Task, model: ChatModel, *, limit: int = 0) -> Result:
    """Ask `model` the examples of `task` (the first `limit` of them, if given)."""
    examples = list(itertools.islice(task.examples(), limit or None))
    if not examples:
        raise ConfigError(tr("{task} has no examples", task=task.name))
    _require(task, model, examples)
    answers = progress(_answers(model, examples), len(examples), task.name)
    scored = [
        Scored(example, answer, task.score(example, answer)) for example, answer in zip(examples, answers, strict=True)
    ]
    return Result(task=task.name, metrics=task.estimates(scored), scored=scored)


def _require(task: Task, model: ChatModel, examples: Sequence[Example]) -> None:
    """ConfigError if `model` cannot do what some example needs."""
    needs = {example.needs for example in examples}
    if isinstance(model, LLM):
        if "chat" in needs and template_source(model.tokenizer) is None:
            message = "{task} needs a chat model: {model} has neither a chat template nor tokens for turns"
            raise ConfigError(tr(message, task=task.name, model=model.name))
    elif "likelihood" in needs:
        raise ConfigError(tr("{task} needs likelihoods: a model that runs here, not one behind a URL", task=task.name))
    elif "completion" in needs:
        message = "{task} needs completions without a chat template: a model that runs here, not one behind a URL"
        raise ConfigError(tr(message, task=task.name))


def _answers(model: Any, examples: Sequence[Example]) -> Iterator[Answer]:
    """Answers in the order of the examples, of which AT_ONCE are open at a time."""
    answer: dict[type, Callable[[Any, Sequence[Any]], Iterator[Answer]]] = {
        Generate: _generate,
        Complete: _complete,
        Choice: _choose,
        Loglikelihood: likelihoods,
        Episode: _play,
    }
    for start in range(0, len(examples), AT_ONCE):
        opened = examples[start : start + AT_ONCE]
        kinds = {type(example) for example in opened}
        answers = {kind: answer[kind](model, [e for e in opened if type(e) is kind]) for kind in kinds}
        for example in opened:
            yield next(answers[type(example)])


def _generate(model: ChatModel, examples: Sequence[Generate]) -> Iterator[Answer]:
    """The engine shares the prompt among the samples of an example."""
    opened = [[_chat(model, e, e.messages, number) for number in range(e.num_samples)] for e in examples]
    for streams in opened:
        yield _with_samples([_reply(stream) for stream in streams])


def _choose(model: LLM, examples: Sequence[Choice]) -> Iterator[Answer]:
    return (choose(model, example) for example in examples)


def _complete(model: LLM, examples: Sequence[Complete]) -> Iterator[Answer]:
    prompts = [example.prompt for example in examples]
    params = [
        model.params(**{"stop": e.stop, "max_tokens": e.max_tokens, "n": e.num_samples, **(e.sampling or GREEDY)})
        for e in examples
    ]
    for output in model.generate(prompts, params):
        yield _with_samples([_completion(each) for each in output.outputs])


def _play(model: ChatModel, episodes: Sequence[Episode]) -> Iterator[Answer]:
    """Turn by turn, the same turn of all episodes at once."""
    answers = [Answer(conversation=tuple(episode.messages)) for episode in episodes]
    responds = [episode.begin() for episode in episodes]
    for turn in range(max(episode.max_turns for episode in episodes)):
        active = [i for i, e in enumerate(episodes) if not answers[i].is_stopped and turn < e.max_turns]
        streams = [_chat(model, episodes[i], answers[i].conversation) for i in active]
        for i, stream in zip(active, streams, strict=True):
            answers[i] = _next_turn(answers[i], _reply(stream), responds[i])
    yield from answers


def _next_turn(answer: Answer, reply: Answer, respond: Respond) -> Answer:
    """`answer` with one more reply in it, and what the episode made of the reply."""
    message = Message("assistant", reply.text, tool_calls=reply.tool_calls)
    response = respond(message)
    conversation, num_tokens = (*answer.conversation, message), answer.num_tokens + reply.num_tokens
    reply = replace(reply, is_stopped=False, num_tokens=num_tokens)
    if isinstance(response, Mapping):
        return replace(reply, is_stopped=True, conversation=conversation, shares=response)
    return replace(reply, conversation=(*conversation, *response))


def _chat(model: ChatModel, e: Generate | Episode, messages: Sequence[Message], sample: int = 0) -> Iterator[Delta]:
    """A reply under way. Samples with a seed have the seeds from there on."""
    sampling: dict[str, Any] = dict(e.sampling or GREEDY)
    if sampling.get("seed") is not None:
        sampling["seed"] += sample
    return model.chat(messages, e.functions, stop=e.stop, **sampling, max_tokens=e.max_tokens)


def _reply(deltas: Iterator[Delta]) -> Answer:
    received = list(deltas)
    last = received[-1]
    return Answer(
        text="".join(delta.text for delta in received),
        tool_calls=tuple(call for delta in received for call in delta.tool_calls),
        is_stopped=last.finish_reason in ("stop", "tool_calls"),
        num_tokens=last.usage.completion_tokens if last.usage else 0,
    )


def _completion(output: CompletionOutput) -> Answer:
    is_stopped = output.finish_reason == "stop"
    return Answer(text=output.text, is_stopped=is_stopped, num_tokens=len(output.token_ids))


def _with_samples(answers: Sequence[Answer]) -> Answer:
    return replace(answers[0], further=tuple(answers[1:]))
