"""Whatever a file, an option or a body holds, the answer is a result or a sentence, never an error of Python.

Each kind of input is a valid example and a function that reads it (`odd_inputs.py`). The example is changed at random
places: a value by an odd one, a key away,
a byte flipped. `QIANWEN_FUZZ=2200` sets how many inputs are tried; the counts
are printed.
"""

import io
import os
import random
import re
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from qianwen.engine.sampling_params import SamplingParams
from qianwen.runtime.errors import DataError, QianwenError

from .odd_inputs import KINDS, Inputs, Said

NUM_INPUTS = int(os.environ.get("QIANWEN_FUZZ") or 340)
# What a person should never read: the words in which Python describes its own objects.
PYTHON = re.compile(
    r"Traceback|NoneType|object has no attribute|not subscriptable|not iterable|unhashable|object at 0x"
    r"|<class|<function"
    r"|\b(Key|Type|Attribute|Index|Value|Assertion|Unicode\w+|Overflow|Recursion|ZeroDivision)Error\b"
    r"|takes \d+ positional|unexpected keyword|invalid literal for int|could not convert string|list indices"
    r"|must be str, not|can only concatenate|unsupported operand|'(str|int|float|dict|list|bool|tuple|bytes)'"
    r"|internal error|index out of range"
)


def outcome(attempt: Callable[[], object]) -> tuple[str, str]:
    """`read`, `sentence` or `fault`, and the text of the last two."""
    try:
        result = attempt()
    except (QianwenError, OSError) as error:
        result = Said(str(error))
    except Exception as error:
        place = error.__traceback__
        while place and place.tb_next:
            place = place.tb_next
        where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else ""
        return "fault", f"{type(error).__name__}: {str(error)[:200]} at {where}"
    if isinstance(result, Said):
        return ("fault" if PYTHON.search(result) else "sentence"), result[:400]
    return "read", ""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Inputs:
    return Inputs(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(autouse=True)
def own_folders(inputs, monkeypatch):
    monkeypatch.setenv("QIANWEN_RUNS", str(inputs.folder / "runs"))
    monkeypatch.setenv("QIANWEN_CACHE", str(inputs.folder / "cache"))
    monkeypatch.setenv("QIANWEN_DATA", str(inputs.folder / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(inputs.folder)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    monkeypatch.setattr("qianwen.checkpoints.load.fetch_model", refuse_network)


def refuse_network(name: str) -> Path:
    raise DataError(f"{name}: no network")


COUNTS: Counter[tuple[str, str]] = Counter()


@pytest.mark.parametrize("kind", KINDS)
def test_every_input_ends_in_a_result_or_a_sentence(inputs, kind):
    chance = random.Random(f"{kind} 20")
    faults: dict[str, str] = {}
    for _ in range(-(-NUM_INPUTS // len(KINDS))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            end, text = outcome(lambda: getattr(inputs, KINDS[kind])(chance))
        COUNTS[kind, end] += 1
        if end == "fault":
            faults.setdefault(text.rpartition(" at ")[2] or text, text)
    assert not faults, "\n".join(faults.values())


def test_the_counts_are_printed(inputs, capsys):
    with capsys.disabled():
        print()
        for kind in KINDS:
            counts = {end: COUNTS[kind, end] for end in ("read", "sentence", "fault")}
            print(f"  {kind:<24} " + "  ".join(f"{end} {count:>5}" for end, count in counts.items()))


def test_answers_of_sampling_are_those_of_the_defaults(inputs):
    """A check of the check: a valid input of every kind is read."""
    params = inputs.llm.params(**{**Inputs.SAMPLING, "logit_bias": {"5": 1.5}})
    assert isinstance(params, SamplingParams) and params.logit_bias == {5: 1.5}
    assert outcome(lambda: {}["x"])[0] == "fault" and outcome(lambda: Said("'NoneType' object"))[0] == "fault"
