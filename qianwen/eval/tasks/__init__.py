"""The tasks, by the name `qianwen eval` knows them under.

text        bits per byte on documents the model never saw
questions   held-out questions with a known form of answer, and sums with a known result
"""

from collections.abc import Callable

from qianwen.eval.task import Task
from qianwen.eval.tasks.questions import Questions
from qianwen.eval.tasks.text import Text

TASKS: dict[str, Callable[[str], Task]] = {"text": Text, "questions": Questions}
