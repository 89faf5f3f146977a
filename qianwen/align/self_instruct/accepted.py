"""The tools and questions that are accepted, from the replies of a stage; and which part a tool belongs to."""

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from qianwen.align.near_duplicates import NearDuplicates
from qianwen.align.self_instruct.prompts import PLAIN_SCHEMA, questions_schema
from qianwen.align.self_instruct.rules import question_fault
from qianwen.align.self_instruct.tools import GeneratedTool, Rejected, ToolReader, read_json
from qianwen.align.service.simulated_tools import SimulatedTool

PARTS = ("train", "evaluation")


@dataclass(frozen=True, kw_only=True)
class SelfInstructConfig:
    """What is asked for."""

    model: str  # name of the model in the record
    tools: int = 200  # replies with a new tool
    questions: int = 4  # replies with four questions for each tool
    plain_share: float = 0.15  # questions without a tool ÷ questions with one
    evaluation_share: float = 0.15  # of the tools
    temperature: float = 0.8
    concurrency: int = 16  # requests at the same time
    seed: int = 0


class Asked(NamedTuple):
    """A question, and the tool that answers it; None if it needs none."""

    question: str
    language: str
    part: str
    tool: GeneratedTool | None


def part_of(tool: SimulatedTool, config: SelfInstructConfig) -> str:
    """`evaluation` for the share of tools that training never sees, by their names."""
    place = zlib.crc32(f"{config.seed}/{tool.spec.name}".encode()) / 2**32
    return "evaluation" if place < config.evaluation_share else "train"


def accepted_tools(rows: Sequence[dict[str, Any]]) -> tuple[list[GeneratedTool], list[tuple[dict[str, Any], str]]]:
    """The tools of the replies, and the replies that are rejected, with their reasons."""
    reader, tools, rejected = ToolReader(), [], []
    for row in rows:
        try:
            if row["finish_reason"] != "stop":
                raise Rejected("cut short")
            tools.append(reader.read(row["reply"], row["language"]))
        except Rejected as reason:
            rejected.append((row, str(reason)))
    return tools, rejected


def accepted_questions(
    rows: Sequence[dict[str, Any]], tools: Sequence[GeneratedTool], config: SelfInstructConfig
) -> tuple[list[Asked], list[tuple[dict[str, Any], str]]]:
    """The questions of the replies, and those that are rejected. One that needs no tool may be in either part."""
    by_name = {tool.spec.name: tool for tool in tools}
    seen, asked, rejected = NearDuplicates(), [], []
    for number, row in enumerate(rows):
        tool = by_name.get(row["tool"]) if row["tool"] else None
        part = part_of(tool, config) if tool else _plain_part(number, config)
        try:
            if row["finish_reason"] != "stop":
                raise Rejected("cut short")
            questions = _questions_of(row["reply"], tool)
        except Rejected as reason:
            rejected.append((row, str(reason)))
            continue
        for question, arguments in questions:
            fault = question_fault(question, row["language"], tool.spec if tool else None, arguments)
            if fault is None and seen.add(question):
                fault = "near duplicate"
            if fault:
                rejected.append(({"question": question, "tool": row["tool"]}, fault))
            else:
                asked.append(Asked(question, row["language"], part, tool))
    return asked, rejected


def _questions_of(reply: str, tool: GeneratedTool | None) -> list[tuple[str, dict[str, Any]]]:
    """The questions of a reply, with the arguments that they should state. Raises Rejected."""
    if tool is None:
        return [(text.strip(), {}) for text in read_json(reply, PLAIN_SCHEMA)["messages"]]
    messages = read_json(reply, questions_schema(tool.spec))["messages"]
    return [(each["message"].strip(), each["arguments"]) for each in messages]


def _plain_part(number: int, config: SelfInstructConfig) -> str:
    return (
        "evaluation" if random.Random(f"{config.seed}/plain/{number}").random() < config.evaluation_share else "train"
    )
