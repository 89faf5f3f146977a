"""What charts show: our intervals, chance, the order of published rows."""

from qianwen.eval.charts import OURS, RIVAL, Bar, curve_chart, heat_map, metric_chart, table_chart
from qianwen.eval.curves import Curve
from qianwen.eval.grids import Grid
from qianwen.eval.metrics import Estimate
from qianwen.eval.tables import Cell, Row, Table
from qianwen.runtime.page import INK, drawn


def test_a_chart_of_metrics_has_a_line_and_a_chance_mark_for_each() -> None:
    bars = [Bar("acc", 0.5, 0.4, 0.6, 0.25), Bar("acc/$x$", 0.3, 0.35, 0.4, 0.25)]  # an interval beside its value
    (axes,) = metric_chart(bars, "acc").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["acc", r"acc/\$x\$"]
    marks = next(line for line in axes.get_lines() if line.get_label() == "chance")
    assert list(marks.get_xdata()) == [0.25, 0.25]
    (axes,) = metric_chart([Bar("bleu", 20, 18, 22)], "bleu").axes
    assert axes.get_legend() is None


def test_published_rows_are_sorted_with_ours_among_them_and_dashes_are_left_out() -> None:
    rows = (
        Row("Rival", "rival", (Cell("60", 60.0),)),
        Row("Silent", "rival", (Cell("–"),)),
        Row("mine", "ours", (Cell("50 [40, 60]", 50.0, 40.0, 60.0, 10),)),
        Row("Old", "rival", (Cell("40", 40.0),)),
    )
    (axes,) = table_chart(Table("t", "T", ("acc",), rows), 0).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Old", "mine", "Rival"]
    assert [bar.get_width() for bar in axes.patches] == [40, 50, 60]
    from matplotlib.colors import to_hex

    assert [to_hex(bar.get_facecolor()) for bar in axes.patches] == [RIVAL, OURS, RIVAL]


def test_a_curve_has_a_point_for_each_length_and_only_all_examples_have_a_band() -> None:
    points = [(1024, Estimate(4.2, 4.0, 4.4, 9)), (4096, Estimate(39.0, 30.0, 50.0, 9))]
    (axes,) = curve_chart([Curve("", points), Curve("a$b", points[:1])], "perplexity").axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines["all"].get_xdata()) == [1024, 4096] and list(lines["all"].get_ydata()) == [4.2, 39.0]
    assert list(lines[r"a\$b"].get_xdata()) == [1024] and len(axes.collections) == 1
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1,024", "4,096"]


def test_a_heat_map_has_a_number_in_each_measured_cell_that_no_page_recolours() -> None:
    cells = {(0, 1024): 1.0, (0, 2048): 0.25, (100, 1024): 0.0}
    grid = Grid("needle", "en", "accuracy", "depth", "length", (0, 100), (1024, 2048), cells)
    figure = heat_map(grid)
    (axes,) = figure.axes
    numbers = {text.get_position(): text for text in axes.texts}
    assert {place: text.get_text() for place, text in numbers.items()} == {(0, 0): "100", (1, 0): "25", (0, 1): "0"}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1,024", "2,048"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "100"]
    drawn(figure, "dark")
    assert [numbers[place].get_color() for place in ((0, 0), (0, 1))] == ["black", "white"], "on yellow and on blue"
    assert axes.xaxis.label.get_color() == INK["dark"]
