"""The tasks, by the name `qianwen eval` knows them under.

text        bits per byte on documents the model never saw
ntrex       bits per byte of the same news in many languages
compression bytes per token of the model's vocabulary, by language
questions   held-out questions with a known form of answer, and sums with a known result
mmlu        questions with four options in 57 subjects, five worked examples; mmlu-chat: none
mmlu-shot-orders    500 of them with five orders of the worked examples
ceval       the same in Chinese, 52 subjects; ceval-chat; ceval-test writes the file for a submission
cmmlu       the same in Chinese, 67 subjects
gsm8k       word problems with a number for an answer; gsm8k-chat, gsm8k-chat-4shot
math        competition problems with a formula for an answer
humaneval   functions to write, judged by tests; humaneval-chat
mbpp        short functions to write, judged by tests
bbh         27 hard tasks of BIG-bench
wmt22-zh-en, wmt22-en-zh    translation by a pretrained model, in BLEU
perplexity-by-length    perplexity of long documents, read in windows of several lengths
needle      one fact in a long text, at every depth and length
ruler       several facts, chains of assignments and common words in a long text
xstest      harmless prompts that look harmful, and harmful ones
donotanswer prompts that no assistant should answer: the half that nothing is trained on
safety-en, safety-zh    our own prompts of both kinds, English and Chinese
system-prompts      system prompts that must be obeyed over six turns, judged by rules
leval-coursera, leval-gsm100, leval-quality, leval-sci-fi, leval-tpo, leval-codeu    L-Eval's questions with one answer
"""

from collections.abc import Callable
from functools import partial

from qianwen.eval.task import Task, TaskOptions
from qianwen.eval.tasks.bbh import Bbh
from qianwen.eval.tasks.ceval import CEVAL, CEvalTest
from qianwen.eval.tasks.cmmlu import CMMLU
from qianwen.eval.tasks.compression import Compression
from qianwen.eval.tasks.humaneval import HumanEval, HumanEvalChat
from qianwen.eval.tasks.length_perplexity import LengthPerplexity
from qianwen.eval.tasks.long_context.leval import PARTS, LEval
from qianwen.eval.tasks.long_context.needle import Needle
from qianwen.eval.tasks.long_context.ruler import Ruler
from qianwen.eval.tasks.mathematics import Gsm8k, Gsm8kChat, Gsm8kChat4Shot, Math
from qianwen.eval.tasks.mbpp import Mbpp
from qianwen.eval.tasks.mmlu import MMLU, ShotOrders
from qianwen.eval.tasks.multiple_choice import FewShot, ZeroShotChat
from qianwen.eval.tasks.questions import Questions
from qianwen.eval.tasks.safety import donotanswer, own_chinese, own_english, xstest
from qianwen.eval.tasks.system_prompts import SystemPrompts
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
    "gsm8k": Gsm8k,
    "gsm8k-chat": Gsm8kChat,
    "gsm8k-chat-4shot": Gsm8kChat4Shot,
    "math": Math,
    "humaneval": HumanEval,
    "humaneval-chat": HumanEvalChat,
    "mbpp": Mbpp,
    "bbh": Bbh,
    "perplexity-by-length": LengthPerplexity,
    "needle": Needle,
    "ruler": Ruler,
    "xstest": xstest,
    "donotanswer": donotanswer,
    "safety-en": own_english,
    "safety-zh": own_chinese,
    "system-prompts": lambda _: SystemPrompts(),
    **{f"leval-{part}": partial(LEval, part) for part in PARTS},
}
# Tasks with texts of the lengths and languages of the options, and those of them that need no data
WITH_LENGTHS = ("perplexity-by-length", "needle", "ruler")
OWN_TEXTS = ("needle", "ruler")
BUILT_IN = ("safety-en", "safety-zh", "system-prompts")  # tasks whose data is part of the package
