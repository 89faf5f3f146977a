"""One example put to a model: from the example to its answer, in the thread that calls.

The runner calls this from many threads. An example is asked greedily, or with the sampling that it sets. What it does
not set is neutral: the values that a model's author recommends for chats, such as a repetition penalty, would make the
numbers of two models those of two protocols. Samples have the seeds `seed`, `seed + 1`, …, so they differ and can be
repeated.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from qianwen.chat.messages import Message
from qianwen.chat.model import ChatModel, Delta
from qianwen.engine.llm import LLM, CompletionOutput
from qianwen.eval.likelihood import choose, likelihoods, read_windows
from qianwen.eval.task import (
    Answer,
    Choice,
    Complete,
    Episode,
    Example,
    Generate,
    Loglikelihood,
    Respond,
    Tokenize,
    Windows,
)

SEED = 1234  # of samples whose example sets none; the seed of Qwen's released scripts
NEUTRAL: dict[str, Any] = {
    **{"top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0},
    **{"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0},  # not in OpenAI's API
}
GREEDY = NEUTRAL | {"temperature": 0.0}


def ask(model: Any, example: Example) -> Answer:
    """The answer of `model`, which must have what the example needs (`runner.check_needs`)."""
    by_kind: dict[type, Callable[[Any, Any], Answer]] = {
        Generate: _generate,
        Complete: _complete,
        Choice: choose,
        Loglikelihood: _score,
        Windows: read_windows,
        Tokenize: _count,
        Episode: _play,
    }
    return by_kind[type(example)](model, example)


def _generate(model: ChatModel, example: Generate) -> Answer:
    """All samples are under way at once, and the engine computes their prompt only once."""
    streams = [_chat(model, example, example.messages, number) for number in range(example.num_samples)]
    return _with_samples([_reply(stream) for stream in streams])


def _complete(model: LLM, example: Complete) -> Answer:
    limits = {"stop": example.stop, "max_tokens": example.max_tokens, "n": example.num_samples}
    params = model.params(**limits | _sampling(example))
    return _with_samples([_completion(each) for each in model.stream(example.prompt, params).result().outputs])


def _score(model: LLM, example: Loglikelihood) -> Answer:
    return next(likelihoods(model, [example]))


def _count(model: LLM, example: Tokenize) -> Answer:
    return Answer(num_tokens=sum(len(model.tokenizer.encode(text)) for text in example.texts))


def _play(model: ChatModel, episode: Episode) -> Answer:
    """Turn by turn, until the episode has a score."""
    answer, respond = Answer(conversation=tuple(episode.messages)), episode.begin()
    for _ in range(episode.max_turns):
        answer = _next_turn(answer, _reply(_chat(model, episode, answer.conversation)), respond)
        if answer.is_stopped:
            break
    return answer


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
    """A reply under way."""
    sampling = _sampling(e)
    if "seed" in sampling:
        sampling["seed"] += sample
    return model.chat(messages, e.functions, stop=e.stop, **sampling, max_tokens=e.max_tokens)


def _sampling(example: Generate | Complete | Episode) -> dict[str, Any]:
    return {**NEUTRAL, "seed": SEED, **example.sampling} if example.sampling else dict(GREEDY)


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
