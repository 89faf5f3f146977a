"""The curve has the right corners and is well-formed XML for any numbers."""

import re
from xml.etree import ElementTree

import pytest

from qianwen.serve.ui.curve import BOTTOM, DIGIT, GAP, HEIGHT, MAX_POINTS, RIGHT, TOP, WIDTH, curve_svg, thin


def corners(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    line = re.search(r'points="([^"]*)"', curve_svg(points))
    assert line is not None
    return [tuple(map(float, pair.split(","))) for pair in line[1].split()]


def test_the_first_point_is_left_and_the_lowest_is_at_the_bottom():
    drawn = corners([(0, 4.5), (5, 2.0), (10, 3.25)])
    left = 1.5 * GAP + DIGIT * len("4.5")
    assert drawn == [
        (left, TOP),
        (round((left + WIDTH - RIGHT) / 2, 1), HEIGHT - BOTTOM),
        (WIDTH - RIGHT, (TOP + HEIGHT - BOTTOM) / 2),
    ]


@pytest.mark.parametrize("points", [[], [(3, 1.5)], [(1, 2.0), (2, 2.0)], [(1, 1e-300), (10**9, 1e300)]])
def test_any_points_give_a_valid_picture(points):
    root = ElementTree.fromstring(curve_svg(points))
    assert root.tag.endswith("svg")


def test_long_curves_have_fewer_points_and_both_ends():
    points = [(step, float(step)) for step in range(100_001)]
    reduced = thin(points)
    assert len(reduced) <= MAX_POINTS + 1 and reduced[0] == points[0] and reduced[-1] == points[-1]
    assert thin(points[:5]) == points[:5]
