"""What a run of self-instruct gave: rows for fine-tuning, what was rejected and why, and the counts.

train.jsonl        dialogues with `tools`, for `qianwen sft`
evaluation.jsonl   the same with tools that are never in train.jsonl
rejected.jsonl     every reply that is not used, with its stage and reason
counts.json        replies, accepted, and rejected by reason, for each stage
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qianwen.align.self_instruct.accepted import PARTS, Asked
from qianwen.align.self_instruct.prompts import call_schema
from qianwen.align.self_instruct.rules import MAX_ANSWER, answer_fault, call_fault, text_fault
from qianwen.align.self_instruct.tools import GeneratedTool, Rejected, read_json
from qianwen.align.service.rows import call, calling, result, service_row
from qianwen.chat.messages import Message
from qianwen.runtime.files import atomic_file, write_jsonl

REJECTED, COUNTS = "rejected.jsonl", "counts.json"
Faults = Sequence[tuple[dict[str, Any], str]]


def dialogue_of(row: dict[str, Any], asked: Asked, tools: dict[str, GeneratedTool]) -> dict[str, Any]:
    """The record of a dialogue. Raises Rejected with the reason."""
    offered = [tools[name].spec for name in row["offered"]]
    if any(row.get(part, {}).get("finish_reason", "stop") != "stop" for part in ("call", "answer")):
        raise Rejected("cut short")
    answer, question = row.get("answer", {}).get("reply", ""), Message("user", asked.question)
    if asked.tool is None:
        _raise(text_fault(answer, asked.language, MAX_ANSWER[asked.language]))
        _raise("number from memory" if any(map(str.isdigit, answer)) else None)
        return service_row([question, Message("assistant", answer)], offered, "no call", asked.language)
    made = read_json(row["call"]["reply"], call_schema(offered))
    _raise(call_fault(made, asked.question, asked.tool.spec, asked.language))
    _raise(answer_fault(answer, asked.question, made["arguments"], row["result"], asked.language))
    called = call(1, made["name"], made["arguments"])
    messages = [question, calling(made["thought"].strip(), called), result(called, row["result"])]
    return service_row([*messages, Message("assistant", answer)], offered, "call", asked.language)


def _raise(reason: str | None) -> None:
    if reason:
        raise Rejected(reason)


def write_outcome(
    folder: Path,
    tools: tuple[Sequence[GeneratedTool], Faults],
    asked: tuple[Sequence[Asked], Faults],
    dialogues: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Judge the dialogues, write all files, and return the counts."""
    by_name = {tool.spec.name: tool for tool in tools[0]}
    rows: dict[str, list[dict[str, Any]]] = {part: [] for part in PARTS}
    faults = []
    for row, each in zip(dialogues, asked[0], strict=True):
        try:
            rows[each.part].append(dialogue_of(row, each, by_name))
        except Rejected as reason:
            faults.append((row, str(reason)))
    for part in PARTS:
        write_jsonl(folder / f"{part}.jsonl", rows[part])
    stages = {"tools": (len(tools[0]), tools[1]), "questions": (len(asked[0]), asked[1])}
    stages["dialogues"] = (sum(map(len, rows.values())), faults)
    write_jsonl(
        folder / REJECTED,
        ({"stage": stage, "reason": reason, "row": row} for stage, (_, each) in stages.items() for row, reason in each),
    )
    counts = {stage: _counts(accepted, each) for stage, (accepted, each) in stages.items()}
    counts |= {part: {"dialogues": len(rows[part]), "tools": _num_tools(rows[part])} for part in PARTS}
    with atomic_file(folder / COUNTS, "w") as file:
        json.dump(counts, file, indent=1)
    return counts


def _counts(accepted: int, faults: Faults) -> dict[str, Any]:
    judged = accepted + len(faults)
    reasons = dict(Counter(reason for _, reason in faults).most_common())
    return {"judged": judged, "accepted": accepted, "acceptance": accepted / max(judged, 1), "rejected": reasons}


def _num_tools(rows: Sequence[dict[str, Any]]) -> int:
    return len({tool["function"]["name"] for row in rows for tool in row["tools"]})
