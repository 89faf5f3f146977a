"""Rejection sampling: a model's own correct solutions as training data in mathematics (RFT; Yuan et al., 2023).

    sample k solutions of each problem → keep those with the answer of the reference and with correct calculations
    → of solutions with equal equations keep the first → documents for pretraining, dialogues for fine-tuning

The published recipe (gsm8k-ScRel) keeps a path if its last number and all its equations are correct. Two paths are
equal if they have the same equations in the same order. Every sample is appended to `samples.jsonl`, in order, so a
killed run loses only the samples in flight; the selection is computed from that file.

    samples.jsonl    every sample: problem, sample, text, finish_reason
    paths.jsonl      the selected ones, with `text` (a document of kind math) and `messages` (a dialogue)
    yield.json       the number of samples for each verdict

Not here: choosing among correct solutions by a reward.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qianwen.align.equations import equations, is_right
from qianwen.align.request_log import in_order
from qianwen.chat.answers import is_right_number, reference_number
from qianwen.chat.messages import Message
from qianwen.chat.model import ChatModel
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import RunFolder, atomic_file, read_jsonl, repair_jsonl, write_jsonl
from qianwen.runtime.translation import tr

INSTRUCTION = (
    "Solve the problem in a few short steps, without code or unknowns. Write out each calculation, as in 3 + 4 = 7. "
    "End with: The answer is N."
)
STOP = ("```",)  # a solution in code is not a reasoning path
END = re.compile(r"answer is\b[^\n]*", re.I)  # the end of a solution; text after it is removed
SAMPLES, PATHS, YIELD = "samples.jsonl", "paths.jsonl", "yield.json"


@dataclass(frozen=True, kw_only=True)
class RejectionConfig:
    """The problems, and how solutions are sampled."""

    model: str  # name of the model in the record
    problems: str  # JSON lines with `question` and `answer`
    samples: int = 8  # samples of each problem
    limit: int = 0  # maximum number of problems; 0: all
    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 320  # maximum length of a solution
    concurrency: int = 16  # samples that run at the same time
    licence: str = "unknown"  # licence of the problems, and so of the data made from them
    seed: int = 0  # random seed


@dataclass(frozen=True)
class Problem:
    """A question with a worked solution or a number."""

    question: str
    answer: str


def read_problems(config: RejectionConfig) -> list[Problem]:
    """The problems of the file. Raises DataError for a row without a question or a number to compare with."""
    problems = []
    for number, row in enumerate(read_jsonl(config.problems), start=1):
        question, answer = row.get("question"), row.get("answer")
        if not isinstance(question, str) or not isinstance(answer, str) or not reference_number(answer):
            raise DataError(
                tr("{path}, row {number}: `question` is missing, or `answer` contains no number",
                   path=config.problems, number=number)
            )  # fmt: skip
        problems.append(Problem(question, answer))
        if len(problems) == config.limit:
            break
    if not problems:
        raise DataError(tr("{path} contains no problem", path=config.problems))
    return problems


def missing(problems: Sequence[Problem], config: RejectionConfig, folder: RunFolder) -> list[tuple[int, int]]:
    """The (problem, sample) that are not on the disk yet. An incomplete last row, left by a kill, is removed."""
    done = repair_jsonl(folder.path / SAMPLES)
    return [(problem, sample) for problem in range(len(problems)) for sample in range(config.samples)][done:]


def draw(
    model: ChatModel,
    problems: Sequence[Problem],
    samples: Sequence[tuple[int, int]],
    config: RejectionConfig,
    folder: RunFolder,
) -> Iterator[dict[str, Any]]:
    """Append the `samples`, which are the `missing` ones, in order; yields each after it was written."""
    with (folder.path / SAMPLES).open("a", encoding="utf-8") as file:

        def sample(which: tuple[int, int]) -> dict[str, Any]:
            return _sample(model, problems[which[0]].question, *which, config)

        for row in in_order(sample, samples, config.concurrency):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            yield row
        os.fsync(file.fileno())


def select(problems: Sequence[Problem], config: RejectionConfig, folder: RunFolder) -> dict[str, Any]:
    """Write the distinct correct paths of the samples on the disk, and return the yield."""
    counts: Counter[str] = Counter()
    solved: Counter[int] = Counter()
    seen: dict[int, set[tuple[str, ...]]] = {}
    rows = []
    for row in read_jsonl(folder.path / SAMPLES):
        verdict, signature = judge(row, problems[row["problem"]].answer)
        counts[verdict] += 1
        solved[row["problem"]] += verdict == "right"
        if verdict == "right" and signature not in seen.setdefault(row["problem"], set()):
            seen[row["problem"]].add(signature)
            rows.append(_path(row, signature, problems[row["problem"]], config))
    write_jsonl(folder.path / PATHS, rows)
    num_samples, num_problems = counts.total(), max(len({*solved}), 1)
    result = {
        "problems": len(solved),
        "samples": num_samples,
        **{
            name: counts[name] for name in ("right", "wrong answer", "wrong calculation", "no calculation", "cut short")
        },
        "problems solved": sum(count > 0 for count in solved.values()),
        "distinct paths": len(rows),
        "share right": counts["right"] / max(num_samples, 1),
        "distinct paths a problem": len(rows) / num_problems,
    }
    with atomic_file(folder.path / YIELD, "w") as file:
        json.dump(result, file, indent=1)
    return result


def judge(row: dict[str, Any], reference: str) -> tuple[str, tuple[str, ...]]:
    """The verdict on a sample (`right`, or the reason for rejecting it), and its equations."""
    signature = equations(row["text"])
    if row["finish_reason"] != "stop" and not END.search(row["text"]):
        return "cut short", signature
    if not is_right_number(row["text"], reference):
        return "wrong answer", signature
    if not signature:
        return "no calculation", signature
    return ("right" if all(map(is_right, signature)) else "wrong calculation"), signature


def _path(row: dict[str, Any], signature: tuple[str, ...], problem: Problem, config: RejectionConfig) -> dict[str, Any]:
    solution = row["text"].strip()
    return {
        "text": f"{problem.question}\n\n{solution}",
        "source": f"rft:{Path(config.problems).name}/{row['problem']}/{row['sample']}",
        "lang": "en",
        "licence": config.licence,
        "kind": "math",
        "equations": list(signature),
        "messages": [
            {"role": "user", "content": problem.question},
            {"role": "assistant", "content": solution},
        ],
    }


def _sample(model: ChatModel, question: str, problem: int, sample: int, config: RejectionConfig) -> dict[str, Any]:
    """One solution. Its seed depends only on the run's seed, the problem and the number of the sample."""
    deltas = model.chat(
        [Message("user", f"{question}\n\n{INSTRUCTION}")],
        stop=STOP,
        temperature=config.temperature,
        top_p=config.top_p,
        max_tokens=config.max_tokens,
        seed=(config.seed * 1_000_003 + problem) * 1009 + sample,
    )
    texts, reason = [], None
    for delta in deltas:
        texts.append(delta.text)
        reason = delta.finish_reason or reason
    text = "".join(texts)
    end = END.search(text)
    return {"problem": problem, "sample": sample, "text": text[: end.end()] if end else text, "finish_reason": reason}
