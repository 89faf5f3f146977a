"""One benchmark of questions with four options: its files, subjects, prompts and averages.

    micro average   the share of all questions that are answered right                  MMLU
    macro average   the mean of the shares of the subjects, each with the same weight   C-Eval, CMMLU

Subjects of a category are averaged in the same way. Questions about one passage are one cluster: their answers are not
independent, so intervals resample them together.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from qianwen.eval.data_files import find
from qianwen.eval.metrics import Estimate, Share, estimate, mean_over_groups
from qianwen.eval.task import Scored
from qianwen.eval.tasks.choice_files import Layout, Question, read_questions
from qianwen.runtime.errors import DataError
from qianwen.runtime.translation import tr


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What one benchmark of questions has of its own: its files, subjects, prompts and average."""

    names: tuple[str, ...]  # of its file or folder
    layout: Layout
    split: str  # the questions; the worked examples are in `dev`
    categories: Mapping[str, str]  # the subjects of each, separated by blanks; a subject may be in several
    is_macro: bool  # the mean over subjects; False: over all questions
    header: str = ""  # before the worked examples, with {subject}
    question: str  # before the question's text
    answer: str  # before the letter
    blank: str = ""  # between `answer` and the letter; part of the letter's token
    max_tokens: int = 0  # of a prompt, see `Choice`
    chat: str  # the message to a chat model, with {question} and {options}
    passage: Callable[[str], str] = lambda text: ""  # the passage in a question's text that others may share

    @cached_property
    def subjects(self) -> frozenset[str]:
        return frozenset(" ".join(self.categories.values()).split())

    def read(self, data: Path, split: str, *, is_answered: bool = True) -> dict[str, list[Question]]:
        """The questions of a split by subject. DataError for a subject that is not of this benchmark."""
        expected = self.layout.expected(split)
        path = find(data, self.names, inside=(*expected, *(f"data/{name}" for name in expected)))
        questions = read_questions(path, split, self.layout, is_answered=is_answered)
        if unknown := sorted(questions.keys() - self.subjects):
            message = "{path} has the subject {subject}, which is not a subject of this benchmark; check the folder"
            raise DataError(tr(message, path=path, subject=unknown[0]))
        return questions

    def clusters(self, questions: Sequence[Question]) -> dict[str, str]:
        """The cluster of each question of a subject, by its id: questions about one passage are in one."""
        first: dict[str, str] = {}  # passage → id of its first question
        clusters = {}
        for question in questions:
            passage = self.passage(question.text)
            shared = first.setdefault(passage, question.id) if passage else question.id
            clusters[question.id] = f"{question.subject}/{shared}"
        return clusters

    def prompt(self, question: Question, shots: Sequence[Question]) -> str:
        """The worked examples and the question, which ends right before the letter."""
        worked = [f"{self._ask(shot)}{self.blank}{shot.answer}\n\n" for shot in shots]
        return self.header.format(subject=question.subject.replace("_", " ")) + "".join(worked) + self._ask(question)

    def message(self, question: Question) -> str:
        """The question as the message to a chat model."""
        return self.chat.format(question=question.text, options=_listed(question))

    def estimates(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        """The accuracy over all subjects, then of each category that was asked about."""
        metrics = {"acc": self._average(scored)}
        for category, subjects in self.categories.items():
            names = frozenset(subjects.split())
            if group := [each for each in scored if each.example.facts["subject"] in names]:
                metrics[f"acc/{category}"] = self._average(group)
        return metrics

    def describe(
        self, questions: Mapping[str, Sequence[Question]], shots: Mapping[str, Sequence[Question]]
    ) -> dict[str, Any]:
        """What identifies the questions: how many, of how many subjects, and a hash of all that was read."""
        every = [question for part in (questions, shots) for each in part.values() for question in each]
        return {
            "average": "mean over subjects" if self.is_macro else "all questions",
            "subjects": f"{len(questions)} of {len(self.subjects)}",
            "questions": sum(map(len, questions.values())),
            "data_sha256": hashlib.sha256(repr(every).encode("utf-8")).hexdigest(),
        }

    def _average(self, scored: Sequence[Scored]) -> Estimate:
        if not self.is_macro:
            return estimate([each.score.shares["acc"] for each in scored], clusters=[e.example.cluster for e in scored])
        subjects: dict[str, list[Share]] = {}
        for each in scored:
            subjects.setdefault(each.example.facts["subject"], []).append(each.score.shares["acc"])
        return mean_over_groups(list(subjects.values()))

    def _ask(self, question: Question) -> str:
        return f"{self.question}{question.text}\n{_listed(question)}\n{self.answer}"


def in_turns(subjects: Mapping[str, Sequence[Question]]) -> Iterator[Question]:
    """The first question of each subject, then the second of each, and so on."""
    return (question for question in chain.from_iterable(zip_longest(*subjects.values())) if question)


def _listed(question: Question) -> str:
    return "\n".join(f"{letter}. {text}" for letter, text in question.options.items())
