"""Dialogues with calls of simulated tools, built by code: every argument and result is known.

call       one call, without a thought
react      the same with the thought before it, as ReAct has it
parallel   two questions in one message, answered by two calls at once
chain      the same, but one call after the other, each with its thought
missing    an argument is missing: the assistant asks for it, and calls when it has it
error      the tool fails, and the answer says so instead of inventing a result
no call    a question that none of the tools helps with
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qianwen.align.plain_answers import SPACE, plain_answers
from qianwen.align.service.rows import call, calling, result, service_row
from qianwen.align.service.simulated_tools import SeedTool, seed_tools
from qianwen.chat.messages import Message

MAX_OTHERS = 3  # tools that are offered beside those that are needed
KINDS = ("call", "react", "parallel", "chain", "missing", "error", "no call")
ERRORS = {
    "en": ("service unavailable", "request timed out", "no entry found"),
    "zh": ("服务暂不可用", "请求超时", "没有找到记录"),
}
TEXTS = {
    "en": {
        "also": "{first} Also: {second}",
        "next": "Next. {thought}",
        "wish": "Can you help me with this: {description}",
        "ask": "Gladly. I still need this from you: {missing}.",
        "give": "Here you are: {given}.",
        "given": "{description}: {value}",
        "failed": 'I could not get that: the tool reported "{error}". Please try again later.',
    },
    "zh": {
        "also": "{first}另外，{second}",
        "next": "接下来，{thought}",
        "wish": "能帮我做这件事吗：{description}",
        "ask": "可以，还需要您提供：{missing}。",
        "give": "好的，{given}。",
        "given": "{description}是{value}",
        "failed": "没有查到结果：工具返回“{error}”。请稍后再试。",
    },
}


@dataclass(frozen=True)
class Step:
    """One call with its result, and the answer that uses it."""

    tool: SeedTool
    question: str
    arguments: dict[str, Any]
    result: dict[str, Any]

    @property
    def values(self) -> dict[str, Any]:
        return self.arguments | self.result

    @property
    def thought(self) -> str:
        return self.tool.example.thought.format(**self.values)

    @property
    def answer(self) -> str:
        return self.tool.example.answer.format(**self.values)


class CallDialogues:
    """Draws dialogues in one language; the same seed gives the same dialogues."""

    def __init__(self, language: str, seed: int) -> None:
        self.language, self.texts = language, TEXTS[language]
        self.draw = random.Random(f"{seed}/{language}")
        self.space = SPACE[language]

    def row(self, kind: str) -> dict[str, Any]:
        """A new dialogue of a kind of `KINDS`."""
        build: dict[str, Callable[[], dict[str, Any]]] = {
            "call": lambda: self._single("call"),
            "react": lambda: self._single("react"),
            "parallel": self._parallel,
            "chain": self._chain,
            "missing": self._missing,
            "error": self._error,
            "no call": self._no_call,
        }
        return build[kind]()

    def _steps(self, count: int) -> list[Step]:
        steps = []
        for tool in self.draw.sample(seed_tools(self.language), count):
            question, arguments = tool.draw(self.draw)
            steps.append(Step(tool, question, arguments, tool.call(arguments, str(self.draw.random()))))
        return steps

    def _row(self, kind: str, messages: list[Message], needed: list[Step]) -> dict[str, Any]:
        names = {step.tool.spec.name for step in needed}
        others = [tool for tool in seed_tools(self.language) if tool.spec.name not in names]
        offered = [step.tool for step in needed]
        offered += self.draw.sample(others, self.draw.randint(0 if needed else 1, MAX_OTHERS))
        self.draw.shuffle(offered)
        return service_row(messages, [tool.spec for tool in offered], kind, self.language)

    def _single(self, kind: str) -> dict[str, Any]:
        (step,) = self._steps(1)
        made = call(1, step.tool.spec.name, step.arguments)
        messages = [
            Message("user", step.question),
            calling(step.thought if kind == "react" else "", made),
            result(made, step.result),
            Message("assistant", step.answer),
        ]
        return self._row(kind, messages, [step])

    def _parallel(self) -> dict[str, Any]:
        steps = self._steps(2)
        made = [call(number, step.tool.spec.name, step.arguments) for number, step in enumerate(steps, start=1)]
        results = [result(each, step.result) for each, step in zip(made, steps, strict=True)]
        messages = [self._both(steps), calling("", *made), *results, self._both_answers(steps)]
        return self._row("parallel", messages, steps)

    def _chain(self) -> dict[str, Any]:
        steps = self._steps(2)
        messages = [self._both(steps)]
        for number, step in enumerate(steps, start=1):
            made = call(number, step.tool.spec.name, step.arguments)
            thought = step.thought if number == 1 else self.texts["next"].format(thought=step.thought)
            messages += [calling(thought, made), result(made, step.result)]
        return self._row("chain", [*messages, self._both_answers(steps)], steps)

    def _both(self, steps: list[Step]) -> Message:
        first, second = (step.question for step in steps)
        return Message("user", self.texts["also"].format(first=first, second=second))

    def _both_answers(self, steps: list[Step]) -> Message:
        return Message("assistant", self.space.join(step.answer for step in steps))

    def _missing(self) -> dict[str, Any]:
        (step,) = self._steps(1)
        properties = step.tool.spec.parameters["properties"]
        names = {name: properties[name]["description"] for name in step.arguments}
        comma = ", " if self.language == "en" else "，"
        given = comma.join(
            self.texts["given"].format(description=names[name], value=value) for name, value in step.arguments.items()
        )
        made = call(1, step.tool.spec.name, step.arguments)
        messages = [
            Message("user", self.texts["wish"].format(description=step.tool.spec.description)),
            Message("assistant", self.texts["ask"].format(missing=comma.join(names.values()))),
            Message("user", self.texts["give"].format(given=given)),
            calling(step.thought, made),
            result(made, step.result),
            Message("assistant", step.answer),
        ]
        return self._row("missing", messages, [step])

    def _error(self) -> dict[str, Any]:
        (step,) = self._steps(1)
        made, error = call(1, step.tool.spec.name, step.arguments), self.draw.choice(ERRORS[self.language])
        messages = [
            Message("user", step.question),
            calling(step.thought, made),
            result(made, {"error": error}),
            Message("assistant", self.texts["failed"].format(error=error)),
        ]
        return self._row("error", messages, [step])

    def _no_call(self) -> dict[str, Any]:
        plain = self.draw.choice(plain_answers(self.language))
        answer = self.space.join(plain.sentences[: self.draw.randint(2, len(plain.sentences))])
        return self._row("no call", [Message("user", plain.question), Message("assistant", answer)], [])
