"""Two folders of results, example by example: `qianwen eval --diff A B`.

Examples are paired by index. A pair counts only if both rows have the same prompt and facts; the rest is reported. The
difference is B − A. A metric is compared in the way the task averages it: over all examples, or over subjects with the
same weight. If neither gives the value in `results.json`, as for BLEU, which is not a mean, the mean of the examples'
scores is compared and named so.

The p-values of the main metrics of all tasks are corrected together, those of the further metrics too.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qianwen.eval.metrics import Share
from qianwen.eval.paired_tests import Paired, holm, mcnemar, paired_interval, sign_permutation
from qianwen.eval.results import Results, TaskResults, load_results
from qianwen.eval.rows import Row
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import flat_config, json_text
from qianwen.runtime.translation import tr

LEVEL = 0.05  # a corrected p-value from which on two models are tied
NOT_SETTINGS = ("tasks", "model", "weights", "machine.", "versions.")  # what two models may differ in

Pair = tuple[Row, Row]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One metric of one task in both folders, on the examples they have in common."""

    task: str
    metric: str
    is_main: bool
    is_mean: bool  # of the examples' scores, where the task's own value is not such a mean
    first: float
    second: float
    low: float  # the 95 % interval of second − first
    high: float
    num_examples: int
    test: str  # "McNemar" or "sign permutation"
    p: float
    corrected_p: float = 1.0

    @property
    def difference(self) -> float:
        return self.second - self.first

    @property
    def is_tied(self) -> bool:
        return self.corrected_p >= LEVEL


@dataclass(frozen=True)
class Change:
    """An example whose verdict differs."""

    index: int
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class TaskComparison:
    """The examples of a task in both folders. `unpaired` has the reason for each example that is not compared."""

    name: str
    num_pairs: int
    changes: list[Change]
    unpaired: dict[int, str]
    settings: dict[str, tuple[Any, Any]]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything `--diff` says. `settings` are those of the model that differ; `alone` are tasks of one folder only."""

    first: Path
    second: Path
    settings: dict[str, tuple[Any, Any]]
    tasks: list[TaskComparison]
    differences: list[Difference]
    alone: dict[str, list[str]]


def compare(first: str | Path, second: str | Path) -> Comparison:
    """The comparison of two folders. ConfigError if they have no task in common."""
    a, b = load_results(first), load_results(second)
    common = [name for name in a.tasks if name in b.tasks]
    if not common:
        message = "{first} and {second} have no task in common: {tasks} and {others}"
        names = {"tasks": ", ".join(a.tasks) or "–", "others": ", ".join(b.tasks) or "–"}
        raise ConfigError(tr(message, first=first, second=second, **names))
    tasks, differences = [], []
    for name in common:
        pairs, unpaired = _pairs(a.tasks[name].rows, b.tasks[name].rows)
        changes = [
            Change(one["index"], one["score"]["verdict"], two["score"]["verdict"])
            for one, two in pairs
            if one["score"]["verdict"] != two["score"]["verdict"]
        ]
        settings = _differing(a.tasks[name].settings, b.tasks[name].settings)
        tasks.append(
            TaskComparison(name=name, num_pairs=len(pairs), changes=changes, unpaired=unpaired, settings=settings)
        )
        differences += _differences(a.tasks[name], b.tasks[name], pairs)
    return Comparison(
        first=a.folder,
        second=b.folder,
        settings=_differing(a.settings, b.settings),
        tasks=tasks,
        differences=_corrected(differences),
        alone={str(each.folder): _alone(each, common) for each in (a, b) if _alone(each, common)},
    )


def _alone(results: Results, common: Sequence[str]) -> list[str]:
    return [name for name in results.tasks if name not in common]


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, except those in which two models may differ."""
    one, two = flat_config(dict(first)), flat_config(dict(second))
    names = [name for name in {**one, **two} if not name.startswith(NOT_SETTINGS)]
    return {name: (one.get(name), two.get(name)) for name in names if one.get(name) != two.get(name)}


# ---- pairs ----------------------------------------------------------------------------------------------------------


def _pairs(first: Iterable[Row], second: Iterable[Row]) -> tuple[list[Pair], dict[int, str]]:
    """The rows of the same examples, and why the rest have no partner."""
    one, two = ({row["index"]: row for row in rows} for rows in (first, second))
    pairs, unpaired = [], {}
    for index in sorted(one.keys() | two.keys()):
        if index not in one or index not in two:
            unpaired[index] = tr("only in one folder")
        elif example_hash(one[index]) != example_hash(two[index]):
            is_prompt = one[index]["prompt"] != two[index]["prompt"]
            unpaired[index] = tr("the prompts differ") if is_prompt else tr("the facts differ")
        elif "error" in one[index] or "error" in two[index]:
            unpaired[index] = tr("an error in one folder")
        else:
            pairs.append((one[index], two[index]))
    return pairs, unpaired


def example_hash(row: Row) -> str:
    """A hash of what identifies an example: prompt, facts and cluster."""
    text = json_text([row["prompt"], row["facts"], row["cluster"]])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# ---- differences ----------------------------------------------------------------------------------------------------


def _differences(first: TaskResults, second: TaskResults, pairs: Sequence[Pair]) -> list[Difference]:
    """One for each metric of the examples, the main one first."""
    names = list(dict.fromkeys(name for pair in pairs for row in pair for name in row["score"]["shares"]))
    names.sort(key=lambda name: name != next(iter(first.metrics), None))
    return [
        _difference(first, second, name, having, is_main=place == 0)
        for place, name in enumerate(names)
        if (having := [pair for pair in pairs if all(name in row["score"]["shares"] for row in pair)])
    ]


def _difference(
    first: TaskResults, second: TaskResults, name: str, pairs: Sequence[Pair], *, is_main: bool
) -> Difference:
    by_subject = _is_mean_of_subjects(first, name)
    is_mean = by_subject is None
    of_first, of_second = (_shares([pair[side] for pair in pairs], name, bool(by_subject)) for side in (0, 1))
    clusters = [pair[0]["cluster"] or str(pair[0]["index"]) for pair in pairs]
    paired = Paired.of(of_first, of_second, clusters)
    if not by_subject and len(set(clusters)) == len(clusters) and _is_right_or_wrong([*of_first, *of_second]):
        counts = Counter((one.amount, two.amount) for one, two in zip(of_first, of_second, strict=True))
        test, p = "McNemar", mcnemar(counts[1.0, 0.0], counts[0.0, 1.0])
    else:
        test, p = "sign permutation", sign_permutation(paired)
    low, high = paired_interval(paired)
    values = dict(zip(("first", "second"), paired.values, strict=True))
    return Difference(
        task=second.name, metric=name, is_main=is_main, is_mean=is_mean, **values, low=low, high=high,
        num_examples=len(pairs), test=test, p=p,
    )  # fmt: skip


def _is_mean_of_subjects(task: TaskResults, name: str) -> bool | None:
    """How the task's value comes from its rows: False: all together, True: by subject, None: in another way."""
    rows = [row for row in task.rows if "error" not in row and name in row["score"]["shares"]]
    for by_subject in (False, True):
        shares = _shares(rows, name, by_subject)
        value = sum(share.amount for share in shares) / sum(share.count for share in shares)
        if name in task.metrics and abs(value - task.metrics[name].value) <= 1e-9 * max(1.0, abs(value)):
            return by_subject
    return None


def _shares(rows: Sequence[Row], name: str, by_subject: bool) -> list[Share]:
    """The shares of a metric; `by_subject`: divided by the count of the subject, so that subjects weigh the same."""
    shares = [Share(*row["score"]["shares"][name]) for row in rows]
    if not by_subject:
        return shares
    subjects = [row["facts"].get("subject") for row in rows]
    totals: defaultdict[str | None, float] = defaultdict(float)
    for subject, share in zip(subjects, shares, strict=True):
        totals[subject] += share.count
    scales = [1 / totals[subject] for subject in subjects]
    return [Share(share.amount * scale, share.count * scale) for share, scale in zip(shares, scales, strict=True)]


def _is_right_or_wrong(shares: Iterable[Share]) -> bool:
    return all(share.count == 1 and share.amount in (0, 1) for share in shares)


def _corrected(differences: Sequence[Difference]) -> list[Difference]:
    corrected = []
    for is_main in (True, False):
        family = [each for each in differences if each.is_main == is_main]
        for each, p in zip(family, holm([each.p for each in family]), strict=True):
            corrected.append(replace(each, corrected_p=p))
    return corrected
