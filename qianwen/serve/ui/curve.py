"""A small SVG curve, drawn in a millisecond, because a live page asks for a dozen of them every few seconds.

Reports have matplotlib (`runtime/page.py`). Here one colour, one axis and two grid lines do; the picture itself knows
dark from light. It is shown as an image, where nothing in an SVG can run, and its only text is numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 460, 170
LEFT, RIGHT, TOP, BOTTOM = 72, 10, 12, 26  # margins
MAX_POINTS = 600  # more than the picture has pixels to show them

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #5d6275; }
.grid { stroke: #e1e4ee; } .line { fill: none; stroke: #5b4bdb; stroke-width: 2; stroke-linejoin: round; }
circle { fill: #5b4bdb; }
@media (prefers-color-scheme: dark) {
  text { fill: #9da2b8; } .grid { stroke: #2d3040; } .line { stroke: #a99dff; } circle { fill: #a99dff; }
}
"""


def curve_svg(points: Sequence[tuple[float, float]]) -> str:
    """`points` as (step, value), in order of step."""
    kept = thinned(points)
    low, high = (min(v for _, v in kept), max(v for _, v in kept)) if kept else (0.0, 1.0)
    first, last = (kept[0][0], kept[-1][0]) if kept else (0, 1)
    wide, tall = (last - first) or 1, (high - low) or 1
    across = [LEFT + (step - first) / wide * (WIDTH - LEFT - RIGHT) for step, _ in kept]
    down = [HEIGHT - BOTTOM - (value - low) / tall * (HEIGHT - TOP - BOTTOM) for _, value in kept]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
    drawn = f'<polyline class="line" points="{path}"/>' if kept else ""
    drawn += f'<circle cx="{across[-1]:.1f}" cy="{down[-1]:.1f}" r="3.5"/>' if kept else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"><style>{STYLE}</style>'
        f"{_grid(TOP, high)}{_grid(HEIGHT - BOTTOM, low)}"
        f'<text x="{LEFT}" y="{HEIGHT - 8}">{first:,}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{last:,}</text>{drawn}</svg>'
    )


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `MAX_POINTS` of them, evenly taken, the last one always."""
    stride = -(-len(points) // MAX_POINTS) or 1
    return [*points[: max(len(points) - 1, 0) : stride], *points[-1:]]


def _grid(y: float, value: float) -> str:
    line = f'<line class="grid" x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}"/>'
    return f'{line}<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value:.4g}</text>'
