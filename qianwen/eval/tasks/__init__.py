"""The tasks, by the name `qianwen eval` knows them under.

text        bits per byte on documents the model never saw
questions   held-out questions with a known form of answer, and sums with a known result
mmlu        questions with four options in 57 subjects
gsm8k       word problems with a number for an answer; gsm8k-chat, gsm8k-chat-4shot
math        competition problems with a formula for an answer
humaneval   functions to write, judged by tests; humaneval-chat
mbpp        short functions to write, judged by tests
bbh         27 hard tasks of BIG-bench
"""

from collections.abc import Callable

from qianwen.eval.task import Task, TaskOptions
from qianwen.eval.tasks.bbh import Bbh
from qianwen.eval.tasks.humaneval import HumanEval, HumanEvalChat
from qianwen.eval.tasks.mathematics import Gsm8k, Gsm8kChat, Gsm8kChat4Shot, Math
from qianwen.eval.tasks.mbpp import Mbpp
from qianwen.eval.tasks.multiple_choice import Mmlu
from qianwen.eval.tasks.questions import Questions
from qianwen.eval.tasks.text import Text

TASKS: dict[str, Callable[[TaskOptions], Task]] = {
    "text": lambda options: Text(options.data),
    "questions": lambda options: Questions(options.data),
    "mmlu": lambda options: Mmlu(options.data),
    "gsm8k": Gsm8k,
    "gsm8k-chat": Gsm8kChat,
    "gsm8k-chat-4shot": Gsm8kChat4Shot,
    "math": Math,
    "humaneval": HumanEval,
    "humaneval-chat": HumanEvalChat,
    "mbpp": Mbpp,
    "bbh": Bbh,
}
