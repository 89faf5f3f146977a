"""Draw a small curve as SVG in about a millisecond: a live page needs a dozen of them every few seconds.

Reports use matplotlib (`runtime/page.py`). Here one colour, one axis and two grid lines are enough; the picture has
colours for dark and light pages. It is shown as an image, because scripts in an SVG image cannot run, and its only text
is numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 460, 170
LEFT, RIGHT, TOP, BOTTOM = 72, 10, 12, 26  # margins
MAX_POINTS = 600  # the curve is narrower than 600 pixels, so more points would not be visible

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #5d6275; }
.grid { stroke: #e1e4ee; } .line { fill: none; stroke: #5b4bdb; stroke-width: 2; stroke-linejoin: round; }
circle { fill: #5b4bdb; }
@media (prefers-color-scheme: dark) {
  text { fill: #9da2b8; } .grid { stroke: #2d3040; } .line { stroke: #a99dff; } circle { fill: #a99dff; }
}
"""


def curve_svg(points: Sequence[tuple[float, float]]) -> str:
    """The curve through `points`, pairs of (step, value) in order of step."""
    points = thin(points)
    low, high = (min(v for _, v in points), max(v for _, v in points)) if points else (0.0, 1.0)
    first, last = (points[0][0], points[-1][0]) if points else (0, 1)
    wide, tall = (last - first) or 1, (high - low) or 1
    across = [LEFT + (step - first) / wide * (WIDTH - LEFT - RIGHT) for step, _ in points]
    down = [HEIGHT - BOTTOM - (value - low) / tall * (HEIGHT - TOP - BOTTOM) for _, value in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
    drawn = f'<polyline class="line" points="{path}"/>' if points else ""
    drawn += f'<circle cx="{across[-1]:.1f}" cy="{down[-1]:.1f}" r="3.5"/>' if points else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"><style>{STYLE}</style>'
        f"{_grid(TOP, high)}{_grid(HEIGHT - BOTTOM, low)}"
        f'<text x="{LEFT}" y="{HEIGHT - 8}">{first:,}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{last:,}</text>{drawn}</svg>'
    )


def thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `MAX_POINTS` + 1 points at equal distances, always with the last one."""
    stride = -(-len(points) // MAX_POINTS) or 1
    return [*points[: max(len(points) - 1, 0) : stride], *points[-1:]]


def _grid(y: float, value: float) -> str:
    line = f'<line class="grid" x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}"/>'
    return f'{line}<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value:.4g}</text>'
