"""A task put to a model: every example asked, every answer scored, the next example as soon as one ends.

Threads take the examples from a list, and each runs one example to its end (`ask.py`). The engine computes the examples
of all threads together. Examples with the same beginning are neighbours in the list, so that they share it in the cache
of the engine; answers do not depend on that order.

Conversations go to any `ChatModel`; completions and likelihoods need an `LLM`. A model that lacks what a task needs is
refused before the first question. An example that fails, because it is too long or a server gave up on it, is an error
of this example only.
"""

import itertools
import queue
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from qianwen.chat.model import ChatModel
from qianwen.chat.templates.choose import template_source
from qianwen.engine.llm import LLM
from qianwen.eval.ask import ask
from qianwen.eval.metrics import Estimate
from qianwen.eval.rows import prompt_texts
from qianwen.eval.task import Example, Loglikelihood, Scored, Task
from qianwen.runtime.errors import ConfigError, QianwenError, RequestError
from qianwen.runtime.log import progress
from qianwen.runtime.translation import tr

REMOTE_WORKERS = 32  # requests to a URL at the same time
ENDS_RUN = (401, 403, 404)  # a wrong key or model fails for every example alike
FAILURES_IN_SUCCESSION = 3 * REMOTE_WORKERS  # errors of the server without an answer between them that end the run


class Outcome(NamedTuple):
    """How one example ended: with an answer and its score, or with an error."""

    index: int
    scored: Scored | None
    error: BaseException | None


@dataclass(frozen=True, kw_only=True)
class Result:
    """The metrics of a model on a task, with every example and answer; the errors by the index of their example."""

    task: str
    metrics: dict[str, Estimate]
    scored: list[Scored]
    errors: dict[int, str] = field(default_factory=dict)


def run_task(task: Task, model: ChatModel, *, limit: int = 0) -> Result:
    """Ask `model` the examples of `task` (the first `limit` of them, if given), without a folder of results."""
    examples = examples_of(task, limit)
    check_needs(task, model, examples)
    ended = list(progress(outcomes(task, model, list(enumerate(examples))), len(examples), task.name))
    scored = {outcome.index: outcome.scored for outcome in ended if outcome.scored}
    in_order = [scored[index] for index in sorted(scored)]
    errors = {outcome.index: str(outcome.error) for outcome in sorted(ended, key=lambda o: o.index) if outcome.error}
    return Result(task=task.name, metrics=estimates(task, in_order), scored=in_order, errors=errors)


def examples_of(task: Task, limit: int = 0) -> list[Example]:
    """The examples of a task, or the first `limit` of them. ConfigError if there are none."""
    examples = list(itertools.islice(task.examples(), limit or None))
    if not examples:
        raise ConfigError(tr("{task} has no examples", task=task.name))
    return examples


def check_needs(task: Task, model: ChatModel, examples: Sequence[Example]) -> None:
    """ConfigError if `model` cannot do what an example needs."""
    needs = {example.needs for example in examples}
    if isinstance(model, LLM):
        if "chat" in needs and template_source(model.tokenizer) is None:
            message = "{task} needs a chat model: {model} has neither a chat template nor tokens for turns"
            raise ConfigError(tr(message, task=task.name, model=model.name))
    elif "likelihood" in needs:
        raise ConfigError(tr("{task} needs likelihoods: a model that runs here, not one behind a URL", task=task.name))
    elif "tokenizer" in needs:
        raise ConfigError(
            tr("{task} needs the tokenizer: a model that runs here, not one behind a URL", task=task.name)
        )
    elif "completion" in needs:
        message = "{task} needs completions without a chat template: a model that runs here, not one behind a URL"
        raise ConfigError(tr(message, task=task.name))


def estimates(task: Task, scored: Sequence[Scored]) -> dict[str, Estimate]:
    """The metrics over the examples that were answered; none if every example ended with an error."""
    return task.estimates(scored) if scored else {}


def outcomes(task: Task, model: ChatModel, examples: Sequence[tuple[int, Example]]) -> Generator[Outcome, None, None]:
    """How each of `examples`, given with its index, ends, in the order in which they end.

    Raises what makes all further questions useless: an error that is not of one example. When the iterator is closed or
    interrupted, the requests that are under way are cancelled.
    """
    waiting = deque(sorted(examples, key=lambda indexed: (task.order(indexed[1]), _place(indexed))))
    ended: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    is_stopped = threading.Event()

    def work() -> None:
        while waiting and not is_stopped.is_set():
            try:
                index, example = waiting.popleft()
            except IndexError:  # another thread took the last one
                return
            outcome = _outcome(task, model, index, example)
            if outcome.error and not _is_of_one_example(outcome.error):
                is_stopped.set()
            ended.put(outcome)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(num_workers(model), len(examples)))]
    try:
        for thread in threads:
            thread.start()
        yield from _without_fatal(ended.get() for _ in examples)
    finally:
        is_stopped.set()
        _end(threads, model)


def num_workers(model: ChatModel) -> int:
    """Twice the answers that the engine computes at a time, so that its queue is never empty when one ends."""
    return 2 * model.engine.config.max_num_seqs if isinstance(model, LLM) else REMOTE_WORKERS


def _place(indexed: tuple[int, Example]) -> tuple[list[str], int]:
    """By the prompt; documents without one from the longest on, so that no long one is left alone at the end."""
    example = indexed[1]
    return prompt_texts(example), -len(example.continuation) if isinstance(example, Loglikelihood) else 0


def _outcome(task: Task, model: ChatModel, index: int, example: Example) -> Outcome:
    try:
        answer = ask(model, example)
        return Outcome(index, Scored(example, answer, task.score(example, answer)), None)
    except BaseException as error:  # raised again in the thread of the runner, unless it is of this example only
        return Outcome(index, None, error)


def _without_fatal(ended: Iterable[Outcome]) -> Iterator[Outcome]:
    """The outcomes up to an error that all further examples would have too, which is raised."""
    failures = 0
    for outcome in ended:
        error = outcome.error
        is_failure = isinstance(error, RequestError) and error.status >= 500
        failures = failures + 1 if is_failure else 0
        if error and (not _is_of_one_example(error) or failures == FAILURES_IN_SUCCESSION):
            raise error
        yield outcome


def _is_of_one_example(error: BaseException) -> bool:
    if isinstance(error, RequestError):
        return error.status not in ENDS_RUN
    return isinstance(error, QianwenError) and not isinstance(error, ConfigError)


def _end(threads: Sequence[threading.Thread], model: ChatModel) -> None:
    """Cancel what is under way. No thread may be inside the engine when the program goes on or ends."""
    if not isinstance(model, LLM):
        return
    for thread in threads:
        while thread.is_alive():
            thread.join(0.05)
            if thread.is_alive():
                model.cancel_all()
