"""Draw a small curve as SVG in about a millisecond: a live page needs a dozen of them every few seconds.

Reports use matplotlib (`runtime/page.py`). Here one colour, one axis and two grid lines are enough; the picture has
colours for dark and light pages. It is shown as an image, because scripts in an SVG image cannot run, and its only text
is numbers. The left margin is as wide as the longest number. A noisy curve can be drawn smoothed, before the raw one.
"""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 460, 170
RIGHT, TOP, BOTTOM = 10, 12, 26  # margins
GAP, DIGIT = 8, 7.5  # between a number and the axis; the widest digit of a system font at 12 px
MAX_POINTS = 600  # the curve is narrower than 600 pixels, so more points would not be visible
Points = Sequence[tuple[float, float]]

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #5d6275; }
.grid { stroke: #e1e4ee; } polyline { fill: none; stroke: #5b4bdb; stroke-width: 2; stroke-linejoin: round; }
.raw { stroke-width: 1; opacity: 0.3; } circle { fill: #5b4bdb; }
@media (prefers-color-scheme: dark) {
  text { fill: #9da2b8; } .grid { stroke: #2d3040; } polyline { stroke: #a99dff; } circle { fill: #a99dff; }
}
"""


def curve_svg(points: Points, smoothed: Points = ()) -> str:
    """The curve through `points`, pairs of (step, value) in order of step; `smoothed` is drawn over it, if given."""
    points, smoothed = thin(points), thin(smoothed)
    low, high = (min(v for _, v in points), max(v for _, v in points)) if points else (0.0, 1.0)
    first, last = (points[0][0], points[-1][0]) if points else (0, 1)
    wide, tall = (last - first) or 1, (high - low) or 1
    labels = axis_labels(low, high)
    left = GAP + GAP / 2 + DIGIT * max(map(len, labels))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        step, value = point
        across = left + (step - first) / wide * (WIDTH - left - RIGHT)
        return across, HEIGHT - BOTTOM - (value / tall - low / tall) * (HEIGHT - TOP - BOTTOM)

    def line(kind: str, curve: Points) -> str:
        path = " ".join("{:.1f},{:.1f}".format(*place(point)) for point in curve)
        return f'<polyline class="{kind}" points="{path}"/>'

    drawn = (line("raw", points) + line("line", smoothed)) if smoothed else line("line", points) if points else ""
    if points:
        x, y = place((smoothed or points)[-1])
        drawn += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
    top, bottom = (_grid(y, left, label) for y, label in zip((TOP, HEIGHT - BOTTOM), reversed(labels), strict=True))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"><style>{STYLE}</style>{top}{bottom}'
        f'<text x="{left:.1f}" y="{HEIGHT - 8}">{first:,}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{last:,}</text>{drawn}</svg>'
    )


def axis_labels(low: float, high: float) -> tuple[str, str]:
    """The ends of an axis in as few digits as tell them apart, at least four; an axis of one value has one label."""
    if low == high:
        return number(low), ""
    digits = next((count for count in range(4, 18) if number(low, count) != number(high, count)), 17)
    return number(low, digits), number(high, digits)


def number(value: float, digits: int = 4) -> str:
    """`0.0003`, `2.315`, `12,346`: plain digits, with an exponent only for numbers that are very large or small."""
    if value == 0 or not 1e-4 <= abs(value) < 1e9:
        return f"{value:.{digits}g}"
    return (
        f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{float(f'{value:.{digits}g}'):,}".removesuffix(".0")
    )


def thin(points: Points) -> list[tuple[float, float]]:
    """At most `MAX_POINTS` + 1 points at equal distances, always with the last one."""
    stride = -(-len(points) // MAX_POINTS) or 1
    return [*points[: max(len(points) - 1, 0) : stride], *points[-1:]]


def _grid(y: float, left: float, label: str) -> str:
    line = f'<line class="grid" x1="{left:.1f}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}"/>'
    return f'{line}<text x="{left - GAP:.1f}" y="{y + 4}" text-anchor="end">{label}</text>'
