"""Evaluate a model on a task of your own: yield examples, score answers, read the folder of results.

Run it where `qianwen demo` (or `qianwen demo --quick`) has run, or name a model: python examples/evaluate.py MODEL
"""

import sys
from collections.abc import Iterator

from qianwen import LLM, Message
from qianwen.chat.answers import last_number
from qianwen.eval.console import results_table
from qianwen.eval.evaluation import Evaluation
from qianwen.eval.metrics import Share, acc
from qianwen.eval.provenance import model_settings
from qianwen.eval.task import Answer, Choice, Generate, Score, Task
from qianwen.runtime.log import console

model = sys.argv[1] if len(sys.argv) > 1 else "runs/demo"


class Sums(Task):
    """Sums put to the model as a chat; the last number of the reply must be the result."""

    name = "sums"

    def examples(self) -> Iterator[Generate]:
        for a, b in ((2, 3), (12, 30), (7, 8), (40, 5)):
            question = Message("user", f"What is {a} + {b}?")
            yield Generate(messages=[question], max_tokens=40, facts={"target": str(a + b)})

    def score(self, example: Generate, answer: Answer) -> Score:
        number = last_number(answer.text)
        is_right = number == example.facts["target"]
        return Score(shares={"exact_match": Share(float(is_right))}, extracted=number or None, is_right=is_right)


class Order(Task):
    """Which of two letters comes next? The model does not write: the likelihoods of the two are compared."""

    name, chance = "order", 0.5

    def examples(self) -> Iterator[Choice]:
        # a character after a line break is one token in every vocabulary, as a choice must be
        for context, right in (("A\nB\nC\nD\n", "E"), ("1\n2\n3\n4\n", "5"), ("a\nb\nc\n", "d")):
            yield Choice(context=context, choices=(right, "%"))

    def score(self, example: Choice, answer: Answer) -> Score:
        share = acc(answer.choice_logprobs, 0)
        return Score(
            shares={"acc": share}, extracted=example.choices[int(not share.amount)], is_right=bool(share.amount)
        )


llm = LLM.load(model)
evaluation = Evaluation([Sums(), Order()], "runs/eval/example")
# Without `restart` the same call goes on where an earlier one stopped, and asks nothing twice.
results = evaluation.run(llm, model_settings(llm, model, "stored"), restart=True)
console.print(results_table(results.tasks.values()))
for row in results.tasks["sums"].rows:
    print(f"{row['prompt'][-1]} → {row['answer'].get('text', '')[:60]!r} {row['score']['verdict']}")
