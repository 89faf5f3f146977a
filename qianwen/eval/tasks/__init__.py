"""The tasks, by the name `qianwen eval` knows them under.

text        bits per byte on documents the model never saw
questions   held-out questions with a known form of answer, and sums with a known result
mmlu        questions with four options in 57 subjects
gsm8k       word problems with a number for an answer
"""

from collections.abc import Callable

from qianwen.eval.task import Task
from qianwen.eval.tasks.mathematics import Gsm8k
from qianwen.eval.tasks.multiple_choice import Mmlu
from qianwen.eval.tasks.questions import Questions
from qianwen.eval.tasks.text import Text

TASKS: dict[str, Callable[[str], Task]] = {"text": Text, "questions": Questions, "mmlu": Mmlu, "gsm8k": Gsm8k}
