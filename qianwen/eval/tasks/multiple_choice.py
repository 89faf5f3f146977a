"""Questions with four options: the two protocols of Qwen's released scripts, for any benchmark of such questions.

    FewShot         base models: worked examples, then the question up to its answer; the most likely letter is chosen
    ZeroShotChat    chat models: the question alone; a letter is read out of the reply (`chat/answers.py`)

    acc             the share of questions whose letter is right
    acc/CATEGORY    the same for the subjects of a category

A run of the first N questions asks about every subject alike: the first question of each, then the second of each. So
`--limit 57` is one question of each subject of MMLU. The worked examples are the first rows of the development split,
in their order, as in the released scripts.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from qianwen.chat.answers import choice
from qianwen.chat.messages import Message
from qianwen.eval.metrics import Estimate, Share
from qianwen.eval.task import Answer, Choice, Generate, Score, Scored, Task, TaskOptions
from qianwen.eval.tasks.choice_benchmark import Benchmark, in_turns
from qianwen.eval.tasks.choice_files import LETTERS, Question
from qianwen.runtime.errors import DataError
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

MAX_TOKENS = 512  # of a reply, as in the released generation config
NUM_SHOTS = 5


class _Questions(Task):
    """What both protocols share: the questions of one split, their clusters and the averages."""

    chance = 1 / len(LETTERS)
    is_answered = True  # the answers of the split are published

    def __init__(self, name: str, benchmark: Benchmark, options: TaskOptions) -> None:
        self.name, self.benchmark, self.options = name, benchmark, options

    @cached_property
    def questions(self) -> dict[str, list[Question]]:
        """The questions of each subject. A subject without a file is printed: the result is of a part only."""
        benchmark = self.benchmark
        questions = benchmark.read(self.options.data, benchmark.split, is_answered=self.is_answered)
        if missing := sorted(benchmark.subjects - questions.keys()):
            message = "{task}: {count} of {total} subjects have no file, so the result is of a part only: {missing}"
            values = {"count": len(missing), "total": len(benchmark.subjects), "missing": ", ".join(missing)}
            console.print(tr(message, task=self.name, **values))
        return questions

    @cached_property
    def clusters(self) -> dict[tuple[str, str], str]:
        """The cluster of each question, by subject and id."""
        return {
            (subject, id): cluster
            for subject, questions in self.questions.items()
            for id, cluster in self.benchmark.clusters(questions).items()
        }

    def estimates(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        return self.benchmark.estimates(scored)


class FewShot(_Questions):
    """A question after worked examples, put to a base model; the letters are compared in one request."""

    @property
    def num_shots(self) -> int:
        return NUM_SHOTS if self.options.shots is None else self.options.shots

    @property
    def choices(self) -> tuple[str, ...]:
        """The letters as they follow the prompt."""
        return tuple(self.benchmark.blank + letter for letter in LETTERS)

    @cached_property
    def shots(self) -> dict[str, list[Question]]:
        """The worked examples of each subject. DataError for a subject with too few."""
        if not self.num_shots:
            return dict.fromkeys(self.questions, [])
        shots = self.benchmark.read(self.options.data, "dev")
        for subject in self.questions:
            if (count := len(shots.get(subject, []))) < self.num_shots:
                message = "{path}: subject {subject} has {count} worked examples (dev split), but {number} are needed"
                values = {"subject": subject, "count": count, "number": self.num_shots}
                raise DataError(tr(message, path=self.options.data, **values))
        return {subject: shots[subject][: self.num_shots] for subject in self.questions}

    def examples(self) -> Iterable[Choice]:
        for question in in_turns(self.questions):
            yield self.example(question, self.shots[question.subject])

    def example(self, question: Question, shots: Sequence[Question]) -> Choice:
        """The question after these worked examples."""
        return Choice(
            context=self.benchmark.prompt(question, shots),
            choices=self.choices,
            max_tokens=self.benchmark.max_tokens,
            facts={"subject": question.subject, "id": question.id, "target": question.answer},
            cluster=self.clusters[question.subject, question.id],
        )

    def score(self, example: Choice, answer: Answer) -> Score:
        letter = most_likely(answer)
        is_right = letter == example.facts["target"]
        return Score(shares={"acc": Share(float(is_right))}, extracted=letter, is_right=is_right)

    def settings(self) -> Mapping[str, Any]:
        return {
            "protocol": f"{self.num_shots}-shot, the most likely of {', '.join(map(repr, self.choices))}",
            "prompt": self.benchmark.prompt(PLACEHOLDER, []),
            "shots": f"rows 1 to {self.num_shots} of the subject's dev split, in this order"
            if self.num_shots
            else "none",
            "prompt_tokens": f"the last {self.benchmark.max_tokens - 1}" if self.benchmark.max_tokens else "all",
            **self.benchmark.describe(self.questions, self.shots),
        }


class ZeroShotChat(_Questions):
    """A question as it stands, put to a chat model."""

    def examples(self) -> Iterable[Generate]:
        for question in in_turns(self.questions):
            facts = {"subject": question.subject, "id": question.id, "target": question.answer}
            yield Generate(
                messages=[Message("user", self.benchmark.message(question))],
                max_tokens=MAX_TOKENS,
                facts=facts | {"question": question.text, "options": question.options},
                cluster=self.clusters[question.subject, question.id],
            )

    def score(self, example: Generate, answer: Answer) -> Score:
        letter = choice(answer.text, example.facts["options"], example.facts["question"])
        is_right = letter == example.facts["target"]
        return Score(shares={"acc": Share(float(is_right))}, extracted=letter or None, is_right=is_right)

    def settings(self) -> Mapping[str, Any]:
        return {
            "protocol": f"zero-shot, chat, greedy, at most {MAX_TOKENS} tokens",
            "prompt": self.benchmark.message(PLACEHOLDER),
            "extractor": "chat/answers.py: choice",
            **self.benchmark.describe(self.questions, {}),
        }


def most_likely(answer: Answer) -> str:
    """The letter with the highest log-probability; of equals the first."""
    return LETTERS[max(range(len(LETTERS)), key=lambda i: answer.choice_logprobs[i])]


PLACEHOLDER = Question(
    subject="{subject}", id="", text="{question}", options={"A": "{A}", "B": "{B}", "C": "{C}", "D": "{D}"}, answer=""
)
