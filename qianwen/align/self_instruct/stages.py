"""The three stages of self-instruct. Each asks the model many times, and writes every reply before it is judged.

    tools.jsonl       one reply for each new tool, from an area and two seed tools
    questions.jsonl   four questions in each reply, for a tool, or for no tool
    dialogues.jsonl   thought, call, result and answer for each question that was accepted

What a stage asks is computed from the files of the stages before it, so a killed run goes on where it was, and the same
seed gives the same requests. Tools are divided before anything is asked about them: those for evaluation, and the tools
that are offered beside them, are never in training.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from qianwen.align.plain_answers import plain_answers
from qianwen.align.request_log import logged
from qianwen.align.self_instruct.accepted import PARTS, Asked, SelfInstructConfig, part_of
from qianwen.align.self_instruct.prompts import (
    PLAIN_SCHEMA,
    TOOL_SCHEMA,
    call_schema,
    questions_schema,
    texts,
    tool_line,
)
from qianwen.align.self_instruct.tools import GeneratedTool, Rejected, read_json
from qianwen.align.service.simulated_tools import LANGUAGES, seed_tools
from qianwen.chat.messages import Message
from qianwen.chat.model import ChatModel
from qianwen.runtime.files import json_text

TOOLS, QUESTIONS, DIALOGUES = "tools.jsonl", "questions.jsonl", "dialogues.jsonl"
LONGEST = {"tool": 400, "questions": 380, "call": 200, "answer": 140}  # tokens
MAX_OTHERS = 3  # tools that are offered beside the one that helps
NUM_SETS = 3  # of offered tools, for the questions of one tool


class Stages:
    """The stages of one run, whose files are in `folder`."""

    def __init__(self, model: ChatModel, config: SelfInstructConfig, folder: Path) -> None:
        self.model, self.config, self.folder = model, config, folder

    # ---- tools

    def num_tools(self) -> int:
        return self.config.tools

    def tools(self) -> Iterator[dict[str, Any]]:
        """Replies with a new tool each."""
        yield from logged(self.folder / TOOLS, self._tool, range(self.config.tools), self.config.concurrency)

    def _tool(self, number: int) -> dict[str, Any]:
        draw, language = self._draw(TOOLS, number), LANGUAGES[number % 2]
        areas = texts(language)["areas"]
        examples = "\n".join(tool_line(tool.spec) for tool in draw.sample(seed_tools(language), 2))
        area = areas[number // 2 % len(areas)]
        prompt = texts(language)["prompts"]["tool"].format(area=area, examples=examples)
        return {"language": language, "area": area, **self._ask(prompt, "tool", TOOL_SCHEMA, draw)}

    # ---- questions

    def questions(self, tools: Sequence[GeneratedTool]) -> Iterator[dict[str, Any]]:
        """Replies with four questions each: for every tool, then for no tool."""
        yield from logged(self.folder / QUESTIONS, self._question, self.question_items(tools), self.config.concurrency)

    def question_items(self, tools: Sequence[GeneratedTool]) -> list[tuple[int, GeneratedTool | None]]:
        """The requests of the stage: a number and a tool, or None."""
        with_tool = [tool for _ in range(self.config.questions) for tool in tools]
        return list(enumerate([*with_tool, *[None] * round(self.config.plain_share * len(with_tool))]))

    def _question(self, item: tuple[int, GeneratedTool | None]) -> dict[str, Any]:
        number, tool = item
        draw = self._draw(QUESTIONS, number)
        language = tool.language if tool else LANGUAGES[number % 2]
        prompts = texts(language)["prompts"]
        person = draw.choice(texts(language)["people"])
        if tool is None:
            examples = "\n".join(plain.question for plain in draw.sample(plain_answers(language), 3))
            area = draw.choice(texts(language)["areas"])
            prompt = prompts["plain"].format(area=area, person=person, examples=examples)
            schema = PLAIN_SCHEMA
        else:
            drawn = [seed.draw(draw) for seed in draw.sample(seed_tools(language), 2)]
            examples = "\n".join(json_text({"arguments": given, "message": text}) for text, given in drawn)
            prompt = prompts["questions"].format(tool=tool_line(tool.spec), person=person, examples=examples)
            schema = questions_schema(tool.spec)
        reply = self._ask(prompt, "questions", schema, draw)
        return {"language": language, "tool": tool.spec.name if tool else None, **reply}

    # ---- dialogues

    def dialogues(self, asked: Sequence[Asked], tools: Sequence[GeneratedTool]) -> Iterator[dict[str, Any]]:
        """A dialogue for each question. A call that cannot be read has no result and no answer."""
        by_group = {
            (part, language): [
                tool for tool in tools if tool.language == language and part_of(tool, self.config) == part
            ]
            for part in PARTS
            for language in LANGUAGES
        }

        def request(item: tuple[int, Asked]) -> dict[str, Any]:
            return self._dialogue(item[0], item[1], by_group[item[1].part, item[1].language])

        yield from logged(self.folder / DIALOGUES, request, list(enumerate(asked)), self.config.concurrency)

    def _dialogue(self, number: int, asked: Asked, tools: Sequence[GeneratedTool]) -> dict[str, Any]:
        draw, prompts = self._draw(DIALOGUES, number), texts(asked.language)["prompts"]
        offered = self._offered(number, asked, tools)
        row = {"question": asked.question, "offered": [tool.spec.name for tool in offered]}
        if asked.tool is None:
            return {**row, "answer": self._ask(prompts["direct"].format(question=asked.question), "answer", None, draw)}
        specs = [tool.spec for tool in offered]
        prompt = prompts["call"].format(tools="\n".join(map(tool_line, specs)), question=asked.question)
        call = self._ask(prompt, "call", call_schema(specs), draw)
        return {**row, "call": call, **self._answer(call["reply"], asked, asked.tool, offered, draw)}

    def _offered(self, number: int, asked: Asked, tools: Sequence[GeneratedTool]) -> list[GeneratedTool]:
        """The tools of a dialogue. The questions of a tool share a few sets, whose prompts the engine then reuses."""
        name = asked.tool.spec.name if asked.tool else "none"
        draw = random.Random(f"{self.config.seed}/{name}/{number % NUM_SETS}")
        others = [tool for tool in tools if tool != asked.tool]
        offered = draw.sample(others, min(len(others), draw.randint(1, MAX_OTHERS)))
        offered += [asked.tool] if asked.tool else []
        draw.shuffle(offered)
        return offered

    def _answer(
        self, reply: str, asked: Asked, tool: GeneratedTool, offered: Sequence[GeneratedTool], draw: random.Random
    ) -> dict[str, Any]:
        """The result of the call, and the answer; nothing if the call cannot be read or is not the right one."""
        try:
            call = read_json(reply, call_schema([each.spec for each in offered]))
        except Rejected:
            return {}
        if call["name"] != tool.spec.name:
            return {}
        result = tool.call(call["arguments"], str(draw.random()))
        prompt = texts(asked.language)["prompts"]["answer"]
        prompt = prompt.format(question=asked.question, result=json_text(result))
        return {"result": result, "answer": self._ask(prompt, "answer", None, draw)}

    # ---- requests

    def _draw(self, stage: str, number: int) -> random.Random:
        return random.Random(f"{self.config.seed}/{stage}/{number}")

    def _ask(self, prompt: str, kind: str, schema: dict[str, Any] | None, draw: random.Random) -> dict[str, Any]:
        deltas = list(
            self.model.chat(
                [Message("user", prompt)],
                response_format=schema,
                temperature=self.config.temperature if kind in ("tool", "questions") else 0.3,
                top_p=0.95,
                max_tokens=LONGEST[kind],
                seed=draw.randrange(2**31),
            )
        )
        return {"reply": "".join(delta.text for delta in deltas).strip(), "finish_reason": deltas[-1].finish_reason}
