"""MMLU (Hendrycks et al., 2021): 14,042 questions in English on 57 subjects, with the prompts of Qwen's release.

The base protocol keeps the last 2,047 tokens of a prompt of more than 2,048, as the released `evaluate_mmlu.py` does.
This cuts worked examples of history subjects, whose questions begin with a passage. There 606 questions are about 201
passages; the questions about one passage are a cluster.

`ShotOrders` measures how far the accuracy depends on the order of the worked examples: the same 500 questions with five
orders. Order k begins with worked example k, and the others follow in a circle, so each is once at each place.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from qianwen.eval.metrics import Estimate, Share, estimate
from qianwen.eval.task import Answer, Choice, Score, Scored
from qianwen.eval.tasks.choice_benchmark import Benchmark, in_turns
from qianwen.eval.tasks.choice_files import Layout
from qianwen.eval.tasks.multiple_choice import FewShot

ORDER_QUESTIONS = 500
OPENING = "This question refers to the following information."


def passage(question: str) -> str:
    """The passage before the question itself, which is the last line; empty if the question has none."""
    return question.rpartition("\n")[0] if question.startswith(OPENING) else ""


MMLU = Benchmark(
    names=("mmlu.zip", "mmlu.tar", "mmlu"),
    layout=Layout(
        csv="{split}/{subject}_{split}.csv",
        parquet=("all/{split}-*.parquet", "{subject}/{split}-*.parquet"),
        has_header=False,
        parquet_columns=("question", "subject", "choices", "answer"),
    ),
    split="test",
    categories={
        "STEM": "abstract_algebra anatomy astronomy college_biology college_chemistry college_computer_science "
        "college_mathematics college_physics computer_security conceptual_physics electrical_engineering "
        "elementary_mathematics high_school_biology high_school_chemistry high_school_computer_science "
        "high_school_mathematics high_school_physics high_school_statistics machine_learning",
        "Social Sciences": "econometrics high_school_geography high_school_government_and_politics "
        "high_school_macroeconomics high_school_microeconomics high_school_psychology human_sexuality "
        "professional_psychology public_relations security_studies sociology us_foreign_policy",
        "Humanities": "formal_logic high_school_european_history high_school_us_history high_school_world_history "
        "international_law jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy prehistory "
        "professional_law world_religions",
        "Others": "business_ethics clinical_knowledge college_medicine global_facts human_aging management marketing "
        "medical_genetics miscellaneous nutrition professional_accounting professional_medicine virology",
    },
    is_macro=False,
    header="The following are multiple choice questions (with answers) about {subject}.\n\n",
    question="Question: ",
    answer="Answer:",
    blank=" ",
    max_tokens=2048,
    chat="The following is a multiple-choice question. Please choose the most suitable one among A, B, C and D as the "
    "answer to this question.\n\n{question}\n{options}\n",
    passage=passage,
)


class ShotOrders(FewShot):
    """The first 500 questions of MMLU, each with five orders of the worked examples.

    acc           the mean over the orders
    acc/lowest    of the order with the lowest accuracy; `acc/highest` likewise
    same_letter   the share of questions whose letter is the same with every order
    """

    def examples(self) -> Iterable[Choice]:
        for question in islice(in_turns(self.questions), ORDER_QUESTIONS):
            shots = self.shots[question.subject]
            for order in range(self.num_shots):
                example = self.example(question, [*shots[order:], *shots[:order]])
                yield replace(example, facts={**example.facts, "order": order})

    def score(self, example: Choice, answer: Answer) -> Score:
        score = super().score(example, answer)
        return replace(score, shares={**score.shares, f"acc/order {example.facts['order'] + 1}": score.shares["acc"]})

    def estimates(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        orders: dict[int, list[Scored]] = {}
        letters: dict[tuple[str, str], set[str | None]] = {}
        for each in scored:
            facts = each.example.facts
            orders.setdefault(facts["order"], []).append(each)
            letters.setdefault((facts["subject"], facts["id"]), set()).add(each.score.extracted)
        by_order = {f"acc/order {order + 1}": self.benchmark.estimates(each)["acc"] for order, each in orders.items()}
        ranked = sorted(by_order.values())
        return {
            "acc": self.benchmark.estimates(scored)["acc"],
            "acc/lowest": ranked[0],
            "acc/highest": ranked[-1],
            **by_order,
            "same_letter": estimate([Share(float(len(chosen) == 1)) for chosen in letters.values()]),
        }

    def settings(self) -> Mapping[str, Any]:
        orders = f"{self.num_shots} orders: worked examples k to {self.num_shots}, then 1 to k - 1"
        return {
            **super().settings(),
            "orders": orders,
            "asked": f"the first {ORDER_QUESTIONS} questions, subjects in turns",
        }
