"""The tasks, by the name `qianwen eval` knows them under.

text        bits per byte on documents the model never saw
ntrex       bits per byte of the same news in many languages
compression bytes per token of the model's vocabulary, by language
questions   held-out questions with a known form of answer, and sums with a known result
mmlu        questions with four options in 57 subjects, five worked examples; mmlu-chat: none
mmlu-shot-orders    500 of them with five orders of the worked examples
ceval       the same in Chinese, 52 subjects; ceval-chat; ceval-test writes the file for a submission
cmmlu       the same in Chinese, 67 subjects
gsm8k       word problems with a number for an answer
wmt22-zh-en, wmt22-en-zh    translation by a pretrained model, in BLEU
"""

from collections.abc import Callable

from qianwen.eval.task import Task, TaskOptions
from qianwen.eval.tasks.ceval import CEVAL, CEvalTest
from qianwen.eval.tasks.cmmlu import CMMLU
from qianwen.eval.tasks.compression import Compression
from qianwen.eval.tasks.mathematics import Gsm8k
from qianwen.eval.tasks.mmlu import MMLU, ShotOrders
from qianwen.eval.tasks.multiple_choice import FewShot, ZeroShotChat
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
    "mmlu": lambda options: FewShot("mmlu", MMLU, options),
    "mmlu-chat": lambda options: ZeroShotChat("mmlu-chat", MMLU, options),
    "mmlu-shot-orders": lambda options: ShotOrders("mmlu-shot-orders", MMLU, options),
    "ceval": lambda options: FewShot("ceval", CEVAL, options),
    "ceval-test": CEvalTest,
    "ceval-chat": lambda options: ZeroShotChat("ceval-chat", CEVAL, options),
    "cmmlu": lambda options: FewShot("cmmlu", CMMLU, options),
    "gsm8k": lambda options: Gsm8k(options.data),
}
