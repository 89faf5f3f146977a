"""`Agent`: a model that calls tools until it can answer.

>>> agent = Agent(model, [calculator()], journal=Journal("agent-runs"))
>>> for event in agent.run("What is 17 * 23?"):
...     print(event)

One loop does all the work, and the steps of the run are its only state:

    open calls    → decide, make them, commit their results
    an end        → return
    otherwise     → ask the model, commit a thought and calls, or an answer and an end

So a run that stopped anywhere continues by the same loop (`resume`). `run` and `resume` are generators: they yield
pieces of text as the model writes them (`Delta`), every step when it is committed (`Step`), and `Ask` when the user
must decide. After an `Ask` the loop goes on if the journal has an answer by then; else it returns, and `resume` goes
on later. Closing the generator closes the model's stream at once and leaves the run as it is.

What the model can put right becomes an observation: a wrong argument, an unknown tool, a tool that failed. What it
cannot, such as a model that is out of reach, ends the run with an `End` that says why; `resume` tries again.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from qianwen.agents.budget import Budget
from qianwen.agents.calls import Ask, Caller
from qianwen.agents.journal import Journal
from qianwen.agents.policy import Conversation, Decision, Permission, Policy
from qianwen.agents.policy import Result as PolicyResult
from qianwen.agents.reply import ask_model
from qianwen.agents.run import Run
from qianwen.agents.step import End, Given, Result, Step, open_calls
from qianwen.agents.tool import Tool
from qianwen.chat.messages import FunctionSpec, Message
from qianwen.chat.model import ChatModel, Delta
from qianwen.runtime.errors import ConfigError, QianwenError, fault_message
from qianwen.runtime.translation import tr

Event = Delta | Step | Ask


class Agent:
    """A model with tools, instructions, a budget and a policy. Threads may share it, each with its own run."""

    def __init__(
        self,
        model: ChatModel,
        tools: Sequence[Tool] = (),
        *,
        journal: Journal,
        instructions: str = "",
        budget: Budget | None = None,
        policy: Policy | None = None,
        name: str = "agent",
        sampling: Mapping[str, Any] | None = None,
    ) -> None:
        """`sampling` are the arguments of every `model.chat`; `seed` is the seed of a whole run."""
        self.model, self.instructions, self.name, self.journal = model, instructions, name, journal
        self.tools = {tool.name: tool for tool in tools}
        if len(self.tools) < len(tools):
            raise ConfigError(
                tr("two tools have the same name; the names are {names}", names=", ".join(t.name for t in tools))
            )
        self.budget, self.policy = budget or Budget(), policy or Policy()
        self.sampling = dict(sampling or {})
        self.policy.check(tools)

    def run(self, messages: str | Sequence[Message], run: str | None = None) -> Generator[Event, None, None]:
        """Answer a question, or go on with a run by a further question."""
        run = run or self.journal.create_run(self.name)
        given = [Message("user", messages)] if isinstance(messages, str) else list(messages)
        return self._work(run, given)

    def resume(self, run: str) -> Generator[Event, None, None]:
        """Go on with a run that was killed, that waits for the user, or that an error ended."""
        return self._work(run, [])

    def _work(self, run_id: str, given: Sequence[Message]) -> Generator[Event, None, None]:
        run = Run(self.journal, run_id, self.budget)
        with run.locked():
            caller = Caller(run, self.tools, functools.partial(self._decide, run_id))
            if given:
                yield from self._give(run, caller, given)
            elif not run.steps or (isinstance(end := run.steps[-1], End) and end.reason != "error"):
                return
            try:
                yield from self._loop(run, caller)
            except (QianwenError, OSError) as error:
                yield run.end("error", str(error))
            except Exception as error:
                run.end("error", fault_message(error))
                raise

    def _give(self, run: Run, caller: Caller, given: Sequence[Message]) -> Generator[Event, None, None]:
        """Close what is open, and add the messages. The first ones of a run come after the agent's instructions."""
        yield from caller.drop_calls()
        if run.steps and not isinstance(run.steps[-1], End):
            yield run.end("stopped")
        if not run.steps and self.instructions:
            given = _with_instructions(self.instructions, given)
        steps = [Given(message) for message in given]
        run.add(*steps)
        yield from steps

    def _loop(self, run: Run, caller: Caller) -> Generator[Event, None, None]:
        is_first = True
        while is_first or not isinstance(run.steps[-1], End):
            is_first = False  # a run that an error ended begins with that `End`
            if reason := run.overspent:
                yield from caller.drop_calls()
                yield run.end(reason)
            elif open_calls(run.steps):
                if not (yield from caller.make_calls()):
                    return
            else:
                with closing(ask_model(run, self.model, self.tools, self.sampling)) as reply:
                    yield from reply

    def _decide(self, run: str, tool: Tool, arguments: Mapping[str, Any], steps: Sequence[Step]) -> Decision:
        """The policy's decision, with the tools that the user allowed for the rest of this run."""
        granted: dict[str, Permission] = dict.fromkeys(self.journal.grants(run), "allow")
        own = {**self.policy.agents.get(self.name, {}), **granted}
        policy = replace(self.policy, agents={**self.policy.agents, self.name: own})
        return policy.decide(tool, arguments, self._seen(steps))

    def _seen(self, steps: Sequence[Step]) -> Conversation:
        """What the policy knows about the steps so far. The result of a tool that is no longer there is not trusted."""
        written, results = [], []
        for step in steps:
            if isinstance(step, Given) and step.message.role in ("user", "system"):
                written.append(step.message.text)
            elif isinstance(step, Given) and step.message.role == "tool":
                results.append(PolicyResult(_missing_tool(step.message.name or "tool"), step.message.text))
            elif isinstance(step, Result) and step.status in ("done", "failed"):
                tool = self.tools.get(step.name) or _missing_tool(step.name)
                results.append(PolicyResult(tool, step.observation.text))
        return Conversation(written, results, self.name)


def _missing_tool(name: str) -> Tool:
    def run(*_: object) -> Any:
        raise AssertionError(name)

    return Tool(spec=FunctionSpec(name), run=run)


def _with_instructions(instructions: str, given: Sequence[Message]) -> list[Message]:
    """The messages with the agent's instructions at the start of the system message."""
    if given and given[0].role == "system":
        return [Message("system", f"{instructions}\n\n{given[0].text}"), *given[1:]]
    return [Message("system", instructions), *given]
