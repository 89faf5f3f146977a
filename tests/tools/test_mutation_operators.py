"""Deliberate faults: what each kind of code becomes, and what is left alone."""

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def becomes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], set[str]]:
    """The changed lines of every fault of a source text that compiles."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "tools")
    operators = importlib.import_module("mutation_operators")

    def changed(source: str) -> set[str]:
        (tmp_path / "source.py").write_text(source, encoding="utf-8")
        faults = operators.faults_of(tmp_path, "source.py")
        for fault in faults:
            text = fault.apply(source.encode()).decode()
            assert text.replace(fault.after, fault.before, 1) == source, "the rest of the file stays as it is"
            assert source.splitlines()[fault.line - 1].strip() in fault.before
        return {fault.after for fault in faults if operators.compiles(fault.apply(source.encode()))}

    return changed


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a = b < c", {"a = b <= c"}),
        ("a = b == c", {"a = b != c"}),
        ("a = b is not c", {"a = b is c"}),
        ("a = b not in c", {"a = b in c"}),
        ("a = (b) + (c)", {"a = (b) - (c)"}),
        ("a = b * c", {"a = b / c"}),
        ("a = '中' + b", {"a = '中' - b"}),
        ("a = b and c or d", {"a = b or c or d", "a = b and c and d"}),
        ("a = not (b)", {"a = (b)"}),
        ("a = 3", {"a = 4", "a = 2"}),
        ("a = 0.92", {"a = 1.92", "a = -0.08"}),
        ("a = True", {"a = False"}),
        ("a = b if c else d", {"a = b if True else d", "a = b if False else d"}),
        ("a = [b for b in c if b]", {"a = [b for b in c if True]", "a = [b for b in c if False]"}),
        ("a += b", {"a -= b", "pass"}),
        ("a.b = c", {"pass"}),
        ("a[b] = c", {"pass"}),
        ("a.b: int = c", {"pass"}),
        ("a.b()", {"pass"}),
        ("del a", {"pass"}),
        ("raise ValueError(1)", {"pass"}),
        ("a = b(c, d)", {"a = b(d, c)", "a = b(c)"}),
        ("a = b(c, *d)", {"a = b(c)"}),
        ("a = b(c=d, e=f)", {"a = b(e=f)", "a = b(c=d)"}),
        ("a = b(c=d)", {"a = b()"}),
        ("a = b(c, d=e)", {"a = b(c)"}),
        ("a = zip(b, strict=c)", set()),
    ],
)
def test_an_expression_or_statement_becomes(becomes, source, expected):
    assert becomes(source + "\n") == expected


def test_conditions_loops_and_functions(becomes):
    source = "def f(a, b=1):\n    while a:\n        if b:\n            break\n    return a, b\n"
    assert becomes(source) == {
        *("def f(a, b=2):", "def f(a, b=0):", "while False:", "if True:", "if False:", "continue", "return None"),
    }


def test_a_statement_over_several_lines_is_removed_as_one(becomes):
    assert becomes("a.b(\n    c,\n)\nd = e\n") == {"pass"}


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring with 1 + 1."""',
        "def __repr__(self):\n    return str(1 + 1)",
        "import typing\nif typing.TYPE_CHECKING:\n    a = 1",
        "a: Annotated[int, 1]",
        "def f(a: Annotated[int, 1]) -> Annotated[int, 1]: ...",
        "@cache(1)\ndef f(): ...",
        "assert a == 1",
        "a = f'{1 + 1}'",
        "print(1 + 1)",
        "console.print(tr('a', b=1))",
        "self.log.info('a', 1)",
    ],
)
def test_text_types_and_assertions_are_left_alone(becomes, source):
    assert not becomes(source + "\n")


def test_a_fault_is_the_same_after_lines_above_it_changed(becomes, tmp_path):
    operators = importlib.import_module("mutation_operators")
    becomes("def f(a):\n    return a + 1\n")
    first = operators.faults_of(tmp_path, "source.py")
    becomes("import os\n\n\ndef f(a):\n    return a + 1\n")
    second = operators.faults_of(tmp_path, "source.py")
    assert [fault.key for fault in first] == [fault.key for fault in second]
    assert {fault.place for fault in first} == {"f"} and first[0].line != second[0].line


def test_an_operator_in_a_comment_too_is_left_alone(becomes):
    assert becomes("a = (\n    b  # x + y\n    + c\n)\n") == set()
