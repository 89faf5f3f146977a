"""One reply of the model as steps: a thought and calls, or an answer.

The reply streams. Closing the generator closes the model's stream, which frees its place in the engine or its
connection. Nothing of a reply is committed before it is complete.

When the calls of the budget are spent, or the model repeats itself, it is asked without tools (`forced`). A reply with
nothing in it is asked for once more: another seed, and a line after the last result, since a model that always takes
the most likely token would be silent again.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from qianwen.agents.budget import overspent, spent_calls
from qianwen.agents.run import Run
from qianwen.agents.step import Answer, Call, End, EndReason, Result, Step, Thought, conversation, since_given
from qianwen.agents.tool import Effect, Tool
from qianwen.agents.written_calls import written_call
from qianwen.chat.messages import Message, ToolCall
from qianwen.chat.model import ChatModel, Delta, FinishReason

NUM_ATTEMPTS = 2
REPLY_TOKENS = 2048  # of one reply, unless `max_tokens` is set; a server refuses a limit beyond its context
NUDGE = "\n(Use this result to answer the user now.)"


@dataclass
class _Reply:
    """What has arrived of a reply."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason | None = None
    tokens: int = 0

    def add(self, delta: Delta) -> None:
        self.text += delta.text
        self.reasoning += delta.reasoning
        self.calls += delta.tool_calls
        self.finish_reason = delta.finish_reason or self.finish_reason
        if delta.usage is not None:
            self.tokens = delta.usage.completion_tokens

    @property
    def num_tokens(self) -> int:
        """Without the model's own count a token for each character, which is more than it wrote."""
        return self.tokens or len(self.text) + len(self.reasoning) + sum(len(call.arguments) for call in self.calls)


def ask_model(
    run: Run, model: ChatModel, tools: Mapping[str, Tool], sampling: Mapping[str, Any]
) -> Generator[Delta | Step, None, None]:
    """Stream one reply, then commit and yield its steps. The last step is an `End` unless there are calls to make."""
    reason = forced(run.steps, run.budget.calls) if tools else None
    messages, tokens, attempt = conversation(run.steps), 0, 0
    settings: dict[str, Any] = {"max_tokens": REPLY_TOKENS, **sampling}
    while True:
        limit = min(settings["max_tokens"] or REPLY_TOKENS, run.tokens_left - tokens)
        settings |= {"max_tokens": limit, "seed": run.seed(attempt, sampling.get("seed"))}
        functions, choice = [tool.spec for tool in tools.values()], "none" if reason else "auto"
        reply = yield from _stream(run, model.chat(messages, functions, tool_choice=choice, **settings))
        tokens, attempt = tokens + reply.num_tokens, attempt + 1
        steps = _steps(run, reply, tools, can_call=reason is None)
        is_complete = reply.finish_reason in ("stop", "tool_calls")
        if steps or not is_complete or attempt == NUM_ATTEMPTS or tokens >= run.tokens_left:
            break
        messages = _nudged(messages)
    if not any(isinstance(step, Call) for step in steps):
        is_overspent = overspent(run.budget, run.tokens + tokens, run.watch.seconds)
        steps.append(_end(reply, is_overspent, reason or ("answered" if steps else "empty")))
    run.add(*steps, tokens=tokens)  # together: an answer without its end would be asked for again
    yield from steps


def forced(steps: Sequence[Step], max_calls: int) -> EndReason | None:
    """Why the model must now answer without tools, if it must."""
    if spent_calls(steps) >= max_calls:
        return "calls"
    has_repeated = any(isinstance(step, Result) and step.status == "skipped" for step in since_given(steps))
    return "repeated" if has_repeated else None


def _stream(run: Run, deltas: Iterator[Delta]) -> Generator[Delta, None, _Reply]:
    reply = _Reply()
    with run.watch, _closing(deltas):
        for delta in deltas:
            reply.add(delta)
            if delta.text or delta.reasoning:
                yield Delta(text=delta.text, reasoning=delta.reasoning)
            if run.overspent == "time":
                break
    return reply


@contextmanager
def _closing(deltas: Iterator[Delta]) -> Iterator[None]:
    """Close a stream at the end, if it can be closed."""
    try:
        yield
    finally:
        if close := getattr(deltas, "close", None):
            close()


def _nudged(messages: Sequence[Message]) -> list[Message]:
    """The conversation with a line after the last result. The roles, and so the model's format, stay the same."""
    *before, last = messages
    return [*before, replace(last, content=last.text + NUDGE) if last.role == "tool" else last]


def _steps(run: Run, reply: _Reply, tools: Mapping[str, Tool], *, can_call: bool) -> list[Step]:
    """The steps of a reply; none if it has nothing that can be used."""
    calls, text = reply.calls, reply.text
    if not calls and (written := written_call(text, tools)):
        text, calls = written[0], (written[1],)
    if not calls or not can_call:
        return [Answer(text, reply.reasoning)] if text.strip() else []
    thought = [Thought(text, reply.reasoning)] if text.strip() or reply.reasoning else []
    ids = run.call_ids(len(calls), len(thought))
    effects: list[Effect] = [tools[call.name].effect if call.name in tools else "none" for call in calls]
    called = zip(calls, ids, effects, strict=True)
    return [*thought, *(Call(replace(call, id=key), effect) for call, key, effect in called)]


def _end(reply: _Reply, is_overspent: EndReason | None, reason: EndReason) -> End:
    """Why the run ends after a reply without calls; `reason` if nothing cut the reply."""
    if reply.finish_reason in ("content_filter", "abort"):
        return End("error", f"the reply ended early: {reply.finish_reason}")
    if is_overspent and reply.finish_reason != "stop":
        return End(is_overspent)
    return End("length" if reply.finish_reason == "length" else reason)
