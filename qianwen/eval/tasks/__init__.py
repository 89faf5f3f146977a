"""The tasks, by the name `qianwen eval` knows them under.

text        bits per byte on documents the model never saw
questions   held-out questions with a known form of answer, and sums with a known result
mmlu        questions with four options in 57 subjects
gsm8k       word problems with a number for an answer
"""

from collections.abc import Callable

from qianwen.eval.task import Task, TaskOptions
from qianwen.eval.tasks.mathematics import Gsm8k
from qianwen.eval.tasks.multiple_choice import Mmlu
from qianwen.eval.tasks.questions import Questions
from qianwen.eval.tasks.text import Text

TASKS: dict[str, Callable[[TaskOptions], Task]] = {
    "text": lambda options: Text(options.data),
    "questions": lambda options: Questions(options.data),
    "mmlu": lambda options: Mmlu(options.data),
    "gsm8k": lambda options: Gsm8k(options.data),
}
