"""The tasks, by the name `qianwen eval` knows them under.

text        bits per byte on documents the model never saw
ntrex       bits per byte of the same news in many languages
compression bytes per token of the model's vocabulary, by language
questions   held-out questions with a known form of answer, and sums with a known result
mmlu        questions with four options in 57 subjects
gsm8k       word problems with a number for an answer
wmt22-zh-en, wmt22-en-zh    translation by a pretrained model, in BLEU
"""

from collections.abc import Callable

from qianwen.eval.task import Task, TaskOptions
from qianwen.eval.tasks.compression import Compression
from qianwen.eval.tasks.mathematics import Gsm8k
from qianwen.eval.tasks.multiple_choice import Mmlu
from qianwen.eval.tasks.questions import Questions
from qianwen.eval.tasks.text import Ntrex, Text
from qianwen.eval.tasks.translation import Wmt22

TASKS: dict[str, Callable[[TaskOptions], Task]] = {
    "text": lambda options: Text(options.data),
    "ntrex": lambda options: Ntrex(options.data),
    "compression": lambda options: Compression(options.data),
    "wmt22-zh-en": lambda options: Wmt22(options, "zh", "en"),
    "wmt22-en-zh": lambda options: Wmt22(options, "en", "zh"),
    "questions": lambda options: Questions(options.data),
    "mmlu": lambda options: Mmlu(options.data),
    "gsm8k": lambda options: Gsm8k(options.data),
}
