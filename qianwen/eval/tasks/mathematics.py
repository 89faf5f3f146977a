"""Word problems put to a chat model as they stand, as Qwen's released `evaluate_chat_gsm8k.py` does without examples.

exact_match    the number the reply ends in is the reference's
"""

from collections.abc import Iterable
from pathlib import Path

from qianwen.chat.answers import final_number, is_right_number, reference_number
from qianwen.chat.messages import Message
from qianwen.eval.metrics import Share
from qianwen.eval.task import Answer, Generate, Score, Task
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import read_jsonl
from qianwen.runtime.translation import tr

MAX_TOKENS = 512  # what the released generation config allows


class Gsm8k(Task):
    """Grade-school mathematics (Cobbe et al., 2021): JSON lines with `question` and `answer`, `#### N` at its end."""

    name = "gsm8k"

    def __init__(self, path: str | Path) -> None:
        self.path = path

    def examples(self) -> Iterable[Generate]:
        for number, row in enumerate(read_jsonl(self.path), start=1):
            question, answer = row.get("question"), row.get("answer")
            if not isinstance(question, str) or not isinstance(answer, str) or not reference_number(answer):
                message = "{path}, row {number}: `question` is missing, or `answer` contains no number"
                raise DataError(tr(message, path=self.path, number=number))
            yield Generate(messages=[Message("user", question)], max_tokens=MAX_TOKENS, facts={"target": answer})

    def score(self, example: Generate, answer: Answer) -> Score:
        is_right = is_right_number(answer.text, example.facts["target"])
        extracted = final_number(answer.text) or None
        return Score(shares={"exact_match": Share(float(is_right))}, extracted=extracted, is_right=is_right)
