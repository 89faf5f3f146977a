"""The agent tasks of the benchmark: a right solution passes their checks, anything else does not."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
READ = "import pandas as pd\nd = pd.{read}({file!r})\n"
# For each interpreter task: what computes `answer`, and what draws the chart.
SOLUTIONS = {
    "revenue": ("d['v'] = d.units * d.unit_price; answer = [d.v.sum()]", "d.groupby('month').v.sum().plot.bar()"),
    "kunming": ("k = d[d.city == 'Kunming']; answer = [k.temp_c.mean()]", "plt.plot(pd.to_datetime(k.date), k.temp_c)"),
    "成绩": ("answer = [d['数学'].mean()]", "plt.bar(d['姓名'], d['数学']); plt.savefig('a.png'); plt.close()"),
    "exam": ("answer = [d.score.mean(), d.score.median()]", "d.score.hist(bins=10); plt.show()"),
    "heights": ("answer = [d.height_cm.corr(d.weight_kg)]", "plt.scatter(d.height_cm, d.weight_kg)"),
    "支出": ("s = d.groupby('类别')['金额'].sum(); answer = [s.max()]; word = s.idxmax()", "s.plot.pie()"),
    "stock": (
        "d['m'] = d.close.rolling(5).mean(); answer = [d.m.max()]",
        "d.plot(x='date', y=['close', 'm'])",
    ),
    "visits": (
        "s = d.groupby(pd.to_datetime(d.date).dt.day_name()).visits.mean(); answer = [s['Saturday']]",
        "%matplotlib inline\nimport seaborn\n",
    ),
    "门店": (
        "d['v'] = d['数量'] * d['单价']; s = d.groupby('门店').v.sum(); answer = [s.max()]; word = s.idxmax()",
        "s.plot.barh()",
    ),
    "orders": (
        "d = d.drop_duplicates().dropna(); answer = [d.amount.sum()]",
        "fig, ax = plt.subplots(); ax.bar(*zip(*d.groupby('country').amount.sum().items())); fig.savefig('a.png')",
    ),
}


@pytest.fixture(scope="module")
def package() -> Iterator[object]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from agent_tasks import checks, figures, services, tasks

        yield type("Package", (), {"checks": checks, "figures": figures, "services": services, "tasks": tasks})
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def interpreter(package) -> list:
    return package.tasks.read_tasks("interpreter")


def reading(path: Path, folder: Path = Path()) -> str:
    return READ.format(read="read_excel" if path.suffix == ".xlsx" else "read_csv", file=str(folder / path.name))


def test_there_are_ten_of_a_kind_and_their_files_exist(package):
    for kind in package.tasks.KINDS:
        tasks = package.tasks.read_tasks(kind)
        assert len({task.name for task in tasks}) == 10
        assert all(path.is_file() for task in tasks for path in task.files)
        assert all(len(task.tools) == 3 for task in tasks if kind == "tools")


def test_the_answers_are_right(package, interpreter):
    pytest.importorskip("openpyxl")
    for task in interpreter:
        space: dict = {}
        exec(reading(task.files[0], task.files[0].parent) + SOLUTIONS[task.name][0], space)
        text = " and ".join([f"{number:,.4f}" for number in space["answer"]] + [space.get("word", "")])
        assert not task.answer.missing(text), (task.name, text)
        assert task.answer.missing(text.replace(f"{space['answer'][0]:,.4f}", "12")), task.name


def test_a_chart_counts_for_its_own_task_alone(package, interpreter):
    """All charts in one run: the sandbox starts once."""
    bars = "plt.bar(s.index, s.values)\nraise SystemExit\n"
    cells = ["import matplotlib.pyplot as plt"]
    for task in interpreter:
        compute, draw = SOLUTIONS[task.name]
        # A cell that fails ends, what it drew before is kept, and the next cell runs.
        draw = bars + draw if "seaborn" in draw else draw
        cells.append(f"{reading(task.files[0])}{compute}\n{draw}")
    figures = package.figures.drawn(cells, [path for task in interpreter for path in task.files])
    assert len(figures) == 10
    for i, task in enumerate(interpreter):
        assert [package.figures.shows(figure, task.figure) for figure in figures] == [j == i for j in range(10)]


@pytest.mark.parametrize(
    ("expected", "figure", "is_shown"),
    [
        ({"kind": "bar", "series": [[1, 2]]}, [("bar", [2, 1.001])], True),
        ({"kind": "bar", "series": [[1, 2]]}, [("bar", [2, 1.01])], False),
        ({"kind": "bar", "series": [[1, 2]]}, [("line", [1, 2])], False),
        ({"kind": "line", "series": [[1, 2]]}, [("line", [2, 1])], False),
        ({"kind": "line", "series": [[1, 2], [3]]}, [("line", [1, 2])], False),
        ({"kind": "line", "series": [[1, 2], [3]]}, [("line", [3]), ("line", [1, 2])], True),
        ({"kind": "pie", "series": [[1, 3]]}, [("pie", [0.75, 0.25])], True),
        ({"kind": "histogram", "bins": 2, "count": 3}, [("bar", [1, 2])], True),
        ({"kind": "histogram", "bins": 3, "count": 3}, [("bar", [1, 2])], False),
    ],
)
def test_what_a_figure_must_show(package, expected, figure, is_shown):
    assert package.figures.shows(figure, expected) is is_shown


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("The total is $1,944.75.", []),
        ("共1944.75元，北门店", []),
        ("一共 1，944.75 元", []),
        ("about 1944.7", ["1944.75"]),
        ("item1944.75 and 11944.75 and 1.944.75", ["1944.75"]),
        ("−1944.75", ["1944.75"]),
        ("", ["1944.75"]),
    ],
)
def test_a_number_is_read_however_it_is_written(package, text, missing):
    assert package.tasks.Answer((1944.75,), 0.005, ()).missing(text) == missing
    assert package.tasks.Answer((), 0, ("北门店",)).missing(text) == ([] if "北门店" in text else ["北门店"])


def test_a_run_without_a_picture_or_with_a_wrong_answer_is_not_solved(package, interpreter, tmp_path):
    tools = package.tasks.read_tasks("tools")[0]
    work = package.checks.Work
    assert package.checks.failures(tools, work("It costs $882.45.")) == []
    assert package.checks.failures(tools, work("It costs 882.54.", observations=("882.45",))) != [], "the user reads"
    blank = tmp_path / "blank.png"
    from PIL import Image

    Image.new("RGB", (8, 8), "white").save(blank)
    reasons = package.checks.failures(interpreter[0], work("", observations=("13373.45",), pictures=(blank,)))
    assert reasons == ["no picture came back"]


def test_services_answer_and_name_what_exists(package):
    from qianwen.runtime.errors import ToolError

    services = package.services
    assert services.exchange_rate("usd", "EUR") == 0.8734 and services.exchange_rate("EUR", "USD") == 1.145
    assert services.days_between(services.today(), "2026-05-29") == 76
    for call in (lambda: services.get_price("sofa"), lambda: services.days_between("29 May", "2026-06-01")):
        with pytest.raises(ToolError, match="desk lamp|YYYY-MM-DD"):
            call()
