"""The variables of a cell that printed nothing."""

import pytest

from qianwen.agents.cell_variables import MAX_NAMES, assigned, listing


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("a = 1\nb = c = a", ["a", "b", "c"]),
        ("a, (b, *c) = 1, (2, 3)", ["a", "b", "c"]),
        ("a: int = 1\na += 1\nb: int", ["a", "b"]),
        ("d['x'] = y = 1\nd.z = 2", ["y"]),
        ("import os\ndef f():\n    a = 1\nfor i in []:\n    b = 2", []),
        ("print(a", []),
        ("a\0 = 1", []),
        ("\n".join(f"x{i} = 1" for i in range(50)), [f"x{i}" for i in range(MAX_NAMES)]),
    ],
)
def test_names_that_get_a_value_at_the_top(code, names):
    assert assigned(code) == names


def test_values_are_listed_if_they_are_short(capsys):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"city": ["Oslo", "Rome"], "t": [3.5, 21.0]})
    space = {
        "n": 3,
        "text": "a\nb",
        "long": "x" * 1000,
        "mean": table.t.mean(),
        "size": table.t.to_numpy().sum(),
        "table": table,
        "many": pandas.Series(range(50)),
        "function": print,
    }
    exec(listing([*space, "absent"]), space)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == ["n = 3", r"text = 'a\nb'", "mean = 12.25", "size = 24.5"]
    assert lines[4] == "table: 2 rows, columns city, t" and "Rome" in lines[7]
    assert lines[8:] == ["many: 50 rows"]
    assert "_show" not in space
