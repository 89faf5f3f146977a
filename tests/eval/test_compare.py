"""Two folders: what is paired, what is not, which difference is real."""

from pathlib import Path

import pytest

from qianwen.eval.compare import Change, compare, example_hash
from qianwen.runtime.errors import ConfigError, DataError

from .conftest import row, write_results


def two(tmp_path: Path, first: list[dict], second: list[dict], **second_options: dict):
    write_results(tmp_path / "a", {"mmlu": first})
    write_results(tmp_path / "b", {"mmlu": second}, **second_options)
    return compare(tmp_path / "a", tmp_path / "b")


def test_equal_folders_are_tied(tmp_path: Path) -> None:
    rows = [row(i, i % 2) for i in range(30)]
    comparison = two(tmp_path, rows, rows)
    (only,) = comparison.differences
    assert only.is_tied and only.p == 1.0 and only.difference == 0 and (only.low, only.high) == (0, 0)
    assert not comparison.settings and comparison.tasks[0].changes == [] and comparison.tasks[0].unpaired == {}


def test_a_planted_difference_is_found(tmp_path: Path) -> None:
    first = [row(i, i % 2) for i in range(60)]
    second = [row(i, 1 if i < 30 else i % 2) for i in range(60)]
    comparison = two(tmp_path, first, second)
    (only,) = comparison.differences
    assert (only.first, only.second, only.difference) == (0.5, 0.75, 0.25) and only.test == "McNemar"
    assert only.p == pytest.approx(2.0**-14) and not only.is_tied and 0 < only.low < 0.25 < only.high
    assert comparison.tasks[0].changes == [Change(i, "wrong", "right") for i in range(0, 30, 2)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt": ["another question"]}, "the prompts differ"),
        ({"facts": {"target": "C"}}, "the facts differ"),
        ({"cluster": "p"}, "the facts differ"),
        ({"index": 99}, "only in one folder"),
    ],
)
def test_another_example_is_reported_and_not_compared(tmp_path: Path, change: dict, reason: str) -> None:
    first = [row(i, 0) for i in range(8)]
    second = [row(i, 0) for i in range(7)] + [row(7, 1) | change]
    comparison = two(tmp_path, first, second)
    assert comparison.tasks[0].num_pairs == 7 and comparison.differences[0].difference == 0
    assert set(comparison.tasks[0].unpaired.values()) == {reason}


def test_an_error_in_one_folder_is_not_a_wrong_answer(tmp_path: Path) -> None:
    comparison = two(tmp_path, [row(0, 1), row(1, 1)], [row(0, 1), row(1, None)])
    assert comparison.tasks[0].unpaired == {1: "an error in one folder"}
    assert comparison.differences[0].num_examples == 1 and comparison.differences[0].difference == 0


def test_settings_that_differ_are_named(tmp_path: Path) -> None:
    rows = [row(i, 1) for i in range(3)]
    comparison = two(tmp_path, rows, rows, settings={"": {"bits": 8}, "mmlu": {"shots": 0}})
    assert comparison.settings == {"bits": (4, 8)} and comparison.tasks[0].settings == {"shots": (5, 0)}


def test_without_a_common_task_nothing_is_compared(tmp_path: Path) -> None:
    write_results(tmp_path / "a", {"mmlu": [row(0, 1)]})
    write_results(tmp_path / "b", {"ceval": [row(0, 1)]})
    with pytest.raises(ConfigError, match="no task in common: mmlu and ceval"):
        compare(tmp_path / "a", tmp_path / "b")
    with pytest.raises(DataError, match="no results"):
        compare(tmp_path / "a", tmp_path)


def test_a_task_of_one_folder_is_named(tmp_path: Path) -> None:
    write_results(tmp_path / "a", {"mmlu": [row(0, 1)], "gsm8k": [row(0, 1)]})
    write_results(tmp_path / "b", {"mmlu": [row(0, 1)]})
    assert compare(tmp_path / "a", tmp_path / "b").alone == {str(tmp_path / "a"): ["gsm8k"]}


def test_subjects_weigh_the_same_where_the_task_averages_over_them(tmp_path: Path) -> None:
    subjects = ["law"] * 12 + ["art"] * 4
    first = [row(i, 0, facts={"subject": name}) for i, name in enumerate(subjects)]
    first[0] = row(0, 1, facts={"subject": "law"})
    second = [row(i, name == "art", facts={"subject": name}) for i, name in enumerate(subjects)]
    (only,) = two(tmp_path, first, second).differences
    assert (only.first, only.second) == pytest.approx((1 / 24, 0.5)) and only.test == "sign permutation"
    assert not only.is_mean


def test_a_value_that_is_no_mean_of_scores_is_named_so(tmp_path: Path) -> None:
    rows = [row(i, 10.0 * i, name="bleu") for i in range(4)]
    write_results(tmp_path / "a", {"wmt22": rows})
    results = tmp_path / "a" / "results.json"
    assert "15.0" in results.read_text()
    results.write_text(results.read_text().replace("15.0", "12.5", 1))  # corpus BLEU, not the mean of the sentences
    (only,) = compare(tmp_path / "a", tmp_path / "a").differences
    assert only.is_mean and only.first == 15.0


def test_clusters_are_not_counted_as_independent(tmp_path: Path) -> None:
    first = [row(i, 0, cluster="one passage") for i in range(12)]
    second = [row(i, 1, cluster="one passage") for i in range(12)]
    (only,) = two(tmp_path, first, second).differences
    assert only.test == "sign permutation" and only.p == 1.0 and only.is_tied


def test_many_tasks_are_corrected_together(tmp_path: Path) -> None:
    better = {f"t{n}": [row(i, 1) for i in range(6)] for n in range(4)}
    worse = {f"t{n}": [row(i, 0) for i in range(6)] for n in range(4)}
    write_results(tmp_path / "a", worse)
    write_results(tmp_path / "b", better)
    differences = compare(tmp_path / "a", tmp_path / "b").differences
    assert [each.p for each in differences] == [0.03125] * 4
    assert [each.corrected_p for each in differences] == [0.125] * 4 and all(each.is_tied for each in differences)


def test_the_hash_of_an_example_is_not_of_its_answer() -> None:
    assert example_hash(row(0, 1)) == example_hash(row(0, 0)) != example_hash(row(1, 1))
    assert example_hash(row(0, 1, prompt=["\ud800"])) != example_hash(row(0, 1, prompt=["\ud801"]))
