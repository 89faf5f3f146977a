"""The stored rates are those of the code as it is."""

import tomllib

import pytest

from qianwen.eval.reader_cases.rates import READERS, STORED, error_counts, extractor, main, stored_text


def test_the_stored_rates_are_those_that_are_computed() -> None:
    assert tomllib.loads(stored_text()) == tomllib.loads(STORED.read_text("utf-8"))


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_never_errs_on_ordinary_replies(reader: str) -> None:
    counts = error_counts(reader)
    assert counts["ordinary"][0] == 0 and sum(count for _, count in counts.values()) >= 500


def test_a_result_names_the_reader_with_its_rate() -> None:
    counts = error_counts("boxed")
    wrong, cases = (sum(each) for each in zip(*counts.values(), strict=True))
    assert extractor("boxed") == {"name": "boxed", "error_rate": round(wrong / cases, 4), "num_cases": cases}


def test_the_table_has_the_stored_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    stored = tomllib.loads(STORED.read_text("utf-8"))
    for reader in READERS:
        for kind, (wrong, count) in stored[reader]["errors"].items():
            assert [reader, *kind.split(), str(wrong), str(count)] in lines
