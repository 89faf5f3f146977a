"""Make the calls of one reply: check them, ask the policy, run the tools, and commit one result for each.

No tool runs before all calls of the reply are decided. If the user must decide and has not yet, the run waits: the
question is in the journal, and the run can go on later, in another process.

A call that a kill interrupted is made again, with the same key, if it only computes, reads or sends. If it changes
something, its tool is asked for the outcome. If the tool cannot tell, the model
learns that the call may have happened.

The texts for the model are in English, whatever the user's language is, so that a run does not depend on it.
"""

from __future__ import annotations

import difflib
import json
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from qianwen.agents.arguments import read_arguments
from qianwen.agents.budget import spent_calls
from qianwen.agents.journal import CallState
from qianwen.agents.observations import cut
from qianwen.agents.policy import Decision, Permission
from qianwen.agents.run import Run
from qianwen.agents.step import Call, Result, Status, Step, open_calls, since_given
from qianwen.agents.tool import CallContext, Observation, Tool
from qianwen.chat.messages import ToolCall
from qianwen.runtime.errors import ToolError

MAX_THREADS = 8
MAX_SAME_CALLS = 2  # the next identical call is not made
REPEATED = (
    "{result}\n(This is the earlier result: you made this same call {count} times before. Answer the user with it now.)"
)
SPENT = "This call was not made: all {count} calls are spent. Answer with what you know now."
DENIED = (
    "This call was not allowed, and it was not made. Do not try it again. Go on without it, or say what is missing."
)
STOPPED = "This call was not made: the user stopped the run before it."
UNKNOWN = "This call was interrupted. It may have happened or not. Check that before you call it again."
FAILED = "The tool failed. Go on without it, or try other arguments."
DECIDED: Mapping[Permission, CallState] = {"allow": "allowed", "ask": "asked", "deny": "denied"}
Decide = Callable[[Tool, Mapping[str, Any], Sequence[Step]], Decision]


@dataclass(frozen=True)
class Ask:
    """The user must decide about a call: `Journal.answer(key, allow)`, now or later."""

    key: str
    call: ToolCall
    reason: str


@dataclass(frozen=True)
class _Plan:
    """A call with its result, or with the tool and arguments to make it."""

    call: Call
    result: Result | None = None
    tool: Tool | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def may_be_parallel(self) -> bool:
        """Whether other calls may run at the same time."""
        return self.tool is None or (self.tool.effect in ("none", "reads") and not self.tool.is_stateful)


class Caller:
    """Makes the open calls of a run. `decide` is the policy: tool, arguments and steps so far → decision."""

    def __init__(self, run: Run, tools: Mapping[str, Tool], decide: Decide) -> None:
        self._run, self._tools, self._decide = run, tools, decide

    def make_calls(self) -> Generator[Ask | Step, None, bool]:
        """Make all open calls and yield their results in the order of the calls. False if the run must wait."""
        plans: list[_Plan] = []
        for call in open_calls(self._run.steps):
            plan = yield from self._plan(call, [_as_done(plan) for plan in plans])
            if plan is None:
                return False
            plans.append(plan)
        for group in _groups(plans):
            yield from self._make(group)
        return True

    def drop_calls(self) -> Iterator[Step]:
        """Give the open calls a result without making them, because the run stops."""
        for call in open_calls(self._run.steps):
            is_unknown = self._run.journal.state(call.call.id) == "started" and call.effect == "changes"
            plan = self._interrupted(call) if is_unknown else None
            yield self._add(plan.result if plan and plan.result else _refused(call, "skipped", STOPPED))

    def _plan(self, call: Call, results: Sequence[Result]) -> Generator[Ask, None, _Plan | None]:
        """Decide about one call. `results` are those of the calls before it in this reply. None: wait for the user."""
        key, journal = call.call.id, self._run.journal
        tool = self._tools.get(call.call.name)
        if tool is None:
            return _Plan(call, _refused(call, "invalid", _unknown_tool(call.call.name, self._tools)))
        try:
            arguments = read_arguments(call.call, tool.spec)
        except ToolError as error:
            return _Plan(call, _refused(call, "invalid", str(error)))
        if journal.state(key) == "new":
            if refusal := self._refusal(call, results):
                return _Plan(call, _refused(call, "skipped", refusal))
            decision = self._decide(tool, arguments, self._run.steps)
            journal.decide(key, DECIDED[decision.permission], decision.reason)
        if journal.state(key) == "asked":
            yield Ask(key, call.call, journal.reason(key))
        state = journal.state(key)
        if state == "denied":
            return _Plan(call, _refused(call, "denied", DENIED))
        if state == "started" and call.effect == "changes" and (plan := self._interrupted(call)):
            return plan
        return None if state == "asked" else _Plan(call, None, tool, arguments)

    def _refusal(self, call: Call, results: Sequence[Result]) -> str:
        """Why a call is not made, whatever the policy says."""
        same = []
        before = [step for step in since_given(self._run.steps) if isinstance(step, Call)]
        place = next(index for index, step in enumerate(before) if step.call.id == call.call.id)
        for earlier in reversed(before[:place]):
            if _identity(earlier.call) == _identity(call.call):
                same.append(earlier.call.id)
            elif earlier.effect == "changes":
                break  # what was read before may be different now
        if len(same) >= MAX_SAME_CALLS:
            made = {step.call_id: step.observation.text for step in self._run.steps if isinstance(step, Result)}
            return REPEATED.format(count=len(same), result=made.get(same[0], ""))
        max_calls = self._run.budget.calls
        return SPENT.format(count=max_calls) if spent_calls([*self._run.steps, *results]) >= max_calls else ""

    def _interrupted(self, call: Call) -> _Plan | None:
        """The result of a call that a kill interrupted; None if it certainly did not happen."""
        tool = self._tools.get(call.call.name)
        if tool is None or tool.outcome is None:
            return _Plan(call, _refused(call, "unknown", UNKNOWN))
        observation = tool.outcome(call.call.id)
        return None if observation is None else _Plan(call, self._result(call, observation))

    def _make(self, group: Sequence[_Plan]) -> Generator[Step, None, None]:
        """Run the tools of a group side by side, and commit and yield the results in order."""
        begun = [plan.call for plan in group if plan.result is None]
        has_effect = any(call.effect in ("sends", "changes") for call in begun)
        if begun:
            self._run.journal.start([call.call.id for call in begun], to_disk=has_effect)
        if len(group) == 1:
            with self._run.watch:
                result = group[0].result or self._call(group[0])
            yield self._add(result)
            return
        with ThreadPoolExecutor(min(len(group), MAX_THREADS)) as pool:
            futures = [None if plan.result else pool.submit(self._call, plan) for plan in group]
            for plan, future in zip(group, futures, strict=True):
                with self._run.watch:
                    result = future.result() if future else plan.result
                assert result is not None
                yield self._add(result)

    def _add(self, result: Result) -> Result:
        self._run.add(result)
        return result

    def _call(self, plan: _Plan) -> Result:
        """Run one tool. Whatever it raises becomes an observation."""
        tool, run = plan.tool, self._run
        assert tool is not None
        context = CallContext(plan.call.call.id, run.files, run.seconds_left)
        try:
            observation = tool.run(plan.arguments, context)
            if not isinstance(observation, Observation):
                raise TypeError(f"the tool returned {type(observation).__name__}, not an Observation")
        except ToolError as error:
            return self._result(plan.call, Observation(str(error), is_error=True), "failed")
        except Exception as error:  # a fault of the tool must not end the run
            return self._result(plan.call, Observation(FAILED, is_error=True), "failed", fault=_fault(error))
        return self._result(plan.call, observation)

    def _result(self, call: Call, observation: Observation, status: Status = "done", fault: str = "") -> Result:
        path = self._run.files / f"observation-{call.call.id.rpartition('-')[2]}.txt"
        observation = cut(observation, self._run.budget.observation_chars, path)
        return Result(call.call.id, call.call.name, observation, status, fault)


def _groups(plans: Sequence[_Plan]) -> Iterator[list[_Plan]]:
    """Neighbours that may run side by side are one group; any other call is alone."""
    group: list[_Plan] = []
    for plan in plans:
        if group and not (plan.may_be_parallel and group[-1].may_be_parallel):
            yield group
            group = []
        group.append(plan)
    if group:
        yield group


def _refused(call: Call, status: Status, text: str) -> Result:
    """The result of a call that was not made."""
    return Result(call.call.id, call.call.name, Observation(text, is_error=True), status)


def _as_done(plan: _Plan) -> Result:
    """The result of a planned call, as far as the budget is concerned."""
    return plan.result or Result(plan.call.call.id, plan.call.call.name, Observation(""))


def _identity(call: ToolCall) -> tuple[str, str]:
    """Equal for two calls that differ only in how their JSON is written."""
    try:
        return call.name, json.dumps(json.loads(call.arguments), sort_keys=True)
    except (ValueError, RecursionError):
        return call.name, call.arguments.strip()


def _unknown_tool(name: str, tools: Mapping[str, Tool]) -> str:
    near = difflib.get_close_matches(name, tools, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"There is no tool called {name}.{hint} The tools are: {', '.join(tools) or 'none'}."


def _fault(error: Exception) -> str:
    """Why a tool failed, for the user."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
