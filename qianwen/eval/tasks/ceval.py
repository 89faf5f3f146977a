"""C-Eval (Huang et al., 2023): questions in Chinese on 52 subjects, with the prompts of Qwen's released scripts.

    val     1,346 questions with answers: the base protocol and the chat protocol
    test    12,342 questions without: `CEvalTest` writes the letters to a file to be submitted at cevalbenchmark.com

The average is the mean over the subjects; "Hard" are eight subjects of mathematics, physics and chemistry.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from qianwen.eval.metrics import Estimate, Share, estimate
from qianwen.eval.task import Answer, Choice, Score, Scored, TaskOptions
from qianwen.eval.tasks.choice_benchmark import Benchmark
from qianwen.eval.tasks.choice_files import Layout
from qianwen.eval.tasks.multiple_choice import FewShot, most_likely
from qianwen.runtime.files import json_text

SUBMISSION = "ceval_submission.json"

CEVAL = Benchmark(
    names=("ceval.zip", "ceval-exam.zip", "ceval.tar", "ceval_data.tar", "ceval"),
    layout=Layout(
        csv="{split}/{subject}_{split}.csv",
        parquet=("{subject}/{split}-*.parquet", "{subject}/ceval-exam-{split}.parquet"),
        parquet_columns=("id", "question", "A", "B", "C", "D", "answer"),  # in test the answers are empty
    ),
    split="val",
    categories={
        "STEM": "advanced_mathematics college_chemistry college_physics college_programming computer_architecture "
        "computer_network discrete_mathematics electrical_engineer high_school_biology high_school_chemistry "
        "high_school_mathematics high_school_physics metrology_engineer middle_school_biology middle_school_chemistry "
        "middle_school_mathematics middle_school_physics operating_system probability_and_statistics "
        "veterinary_medicine",
        "Social Sciences": "business_administration college_economics education_science high_school_geography "
        "high_school_politics mao_zedong_thought marxism middle_school_geography middle_school_politics "
        "teacher_qualification",
        "Humanities": "art_studies chinese_language_and_literature high_school_chinese high_school_history "
        "ideological_and_moral_cultivation law legal_professional logic middle_school_history modern_chinese_history "
        "professional_tour_guide",
        "Others": "accountant basic_medicine civil_servant clinical_medicine environmental_impact_assessment_engineer "
        "fire_engineer physician plant_protection sports_science tax_accountant urban_and_rural_planner",
        "Hard": "advanced_mathematics college_chemistry college_physics discrete_mathematics high_school_chemistry "
        "high_school_mathematics high_school_physics probability_and_statistics",
    },
    is_macro=True,
    question="问题：",
    answer="答案：",
    chat="{question}\n\n{options}\n",
)


class CEvalTest(FewShot):
    """The test split. It has no published answers, so nothing is scored; the letters are written to a file.

    answered    1 for each question
    """

    chance = None
    is_answered = False

    def __init__(self, options: TaskOptions) -> None:
        super().__init__("ceval-test", replace(CEVAL, split="test"), options)

    def score(self, example: Choice, answer: Answer) -> Score:
        return Score(shares={"answered": Share(1.0)}, extracted=most_likely(answer))

    def estimates(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        return {"answered": estimate([each.score.shares["answered"] for each in scored])}

    def files(self, scored: Sequence[Scored]) -> Mapping[str, str]:
        """The submission: {subject: {id: letter}}."""
        letters: dict[str, dict[str, str]] = {}
        for example, _, score in scored:
            letters.setdefault(example.facts["subject"], {})[example.facts["id"]] = score.extracted or ""
        return {SUBMISSION: json_text(letters, indent=1)}
