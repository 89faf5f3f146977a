"""Held-out questions: does the answer open as answers of its kind do, does it end by itself, is the sum right?

The files are those of `align/corpus_questions.py`: dialogues with `kind` and `opening`, a pattern. What the answer to
an open question says after its opening is not judged; of arithmetic, it is.

    opens              the answer begins as one to this very question must ("What is bread?" → "Bread is …")
    stops              the model ended it
    opens_and_stops    both
    exact_match        arithmetic only: the number it ends in is the result
"""

import re
from collections.abc import Iterable
from pathlib import Path

from qianwen.chat.answers import last_number
from qianwen.chat.messages import from_openai
from qianwen.eval.metrics import Share, exact_match
from qianwen.eval.task import Answer, Generate, Score, Task
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import read_jsonl
from qianwen.runtime.translation import tr

MAX_TOKENS = 128


class Questions(Task):
    """The dialogues of a JSON-lines file; the model generates the last answer of each."""

    name = "questions"

    def __init__(self, path: str | Path) -> None:
        self.path = path

    def examples(self) -> Iterable[Generate]:
        for number, row in enumerate(read_jsonl(self.path), start=1):
            try:
                *prompt, answer = [from_openai(message) for message in row["messages"]]
                re.compile(row["opening"])
                facts = {"kind": str(row["kind"]), "opening": row["opening"], "target": answer.text}
            except (KeyError, TypeError, ValueError, re.error) as error:
                message = "{path}, row {number}: a question needs `messages`, `kind` and `opening` (a pattern)"
                raise DataError(tr(message, path=self.path, number=number)) from error
            yield Generate(messages=prompt, max_tokens=MAX_TOKENS, facts=facts)

    def score(self, example: Generate, answer: Answer) -> Score:
        kind = example.facts["kind"]
        opens = bool(re.match(example.facts["opening"], answer.text))
        found = {"opens": opens, "stops": answer.is_stopped, "opens_and_stops": opens and answer.is_stopped}
        shares = {name: Share(float(value)) for name, value in found.items()}
        shares[f"opens_and_stops/{kind}"] = shares["opens_and_stops"]
        if kind == "arithmetic":
            shares["exact_match"] = exact_match(last_number(answer.text), last_number(example.facts["target"]))
        return Score(shares=shares, extracted=answer.text, is_right=opens and answer.is_stopped)


def majority(training: Iterable[str], test: Iterable[str]) -> float:
    """Accuracy on `test` of always giving the most frequent answer of `training`."""
    answers, targets = list(training), list(test)
    commonest = max(set(answers), key=lambda answer: (answers.count(answer), answer))
    return targets.count(commonest) / len(targets)
