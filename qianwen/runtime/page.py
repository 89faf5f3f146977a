"""The one writer of HTML reports: sections of prose, numbers, tables, figures and verbatim text in a single file.

A report shows what models wrote, so nothing in it may act: every string is escaped, there is no script, and the
content security policy allows only the one style sheet (by its hash) and images inside the page. Figures are drawn
twice, for light and for dark, and the reader's system chooses. Cards are filtered by radio buttons in the style sheet.
"""

import base64
import hashlib
import html
import io
import re
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from qianwen import __version__
from qianwen.runtime.files import atomic_file
from qianwen.runtime.translation import language as user_language
from qianwen.runtime.translation import tr

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

Cell = str | int | float | None
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
INK = {"light": "#1b1d29", "dark": "#e7e8f0"}
PALETTE = ("#6f5ff0", "#e8743b", "#17a398", "#d9487d", "#3f8fe0", "#b8902a", "#7b8194")  # readable on both grounds
FIXED_INK = "fixed-ink"
MAX_KINDS = 24  # of all filters of a list of cards; the style sheet has a rule for each
MAX_UNFOLDED = 600  # characters of a part of a card


@dataclass(frozen=True)
class Card:
    """Something with a kind, such as an answer with its verdict: a line, and labelled texts that open below it.

    `further` has its kind in each further filter of the list.
    """

    kind: str
    title: str
    parts: Sequence[tuple[str, str]]
    further: Sequence[str] = ()


class Page:
    """A report in the making. Sections come in the order they are added; `write` puts it on the disk."""

    def __init__(self, title: str, language: str | None = None) -> None:
        self.title = title
        self.language = language or user_language()
        self._sections: list[tuple[str, list[str]]] = [("", [])]
        self._num_filters = 0

    def section(self, title: str) -> None:
        """Everything added from here on stands under `title`."""
        self._sections.append((title, []))

    def paragraph(self, text: str) -> None:
        """Prose."""
        self._add(f'<p dir="auto">{_safe(text)}</p>')

    def headline(self, numbers: dict[str, Cell]) -> None:
        """The few numbers a reader should take away, each as label → value."""
        items = (
            f"<div><dt>{_safe(label)}</dt><dd>{_safe(_shown(value))}</dd></div>" for label, value in numbers.items()
        )
        self._add(f"<dl>{''.join(items)}</dl>")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
        """A table; columns of numbers are set flush right. None is an empty cell."""
        body = [list(row) for row in rows]
        numeric = [all(isinstance(row[i], (int, float, type(None))) for row in body) for i in range(len(header))]
        kind = [' class="number"' if number else ' dir="auto"' for number in numeric]
        head = "".join(f'<th scope="col"{k}>{_safe(name)}</th>' for name, k in zip(header, kind, strict=True))
        lines = (
            "".join(f"<td{k}>{_safe(_shown(cell))}</td>" for cell, k in zip(row, kind, strict=True)) for row in body
        )
        rest = "".join(f"<tr>{line}</tr>" for line in lines)
        marked = f"<table><thead><tr>{head}</tr></thead><tbody>{rest}</tbody></table>"
        self._add(f'<div class="scroll" tabindex="0">{marked}</div>')

    def text(self, text: str) -> None:
        """Verbatim text: samples, transcripts, configurations."""
        self._add(f'<pre dir="auto">{_safe(text)}</pre>')

    def links(self, targets: Mapping[str, str]) -> None:
        """Links to files beside the page: text → relative path."""
        items = (f'<a href="./{quote(path, errors="replace")}">{_safe(text)}</a>' for text, path in targets.items())
        self._add(f"<p>{' · '.join(items)}</p>")

    def cards(self, kinds: Mapping[str, str], cards: Iterable[Card], further: Sequence[Mapping[str, str]] = ()) -> None:
        """Cards, each folded to its title. `kinds` has the label of each kind; the reader chooses one, or all.

        `further` are the kinds of further filters. A card is visible if all filters choose it.
        """
        filters = [kinds, *further]
        assert sum(map(len, filters)) <= MAX_KINDS, filters
        numbers: list[dict[str, str]] = []
        buttons = ""
        for labels in filters:
            self._num_filters += 1
            first = sum(map(len, numbers)) + 1
            numbers.append({kind: f"k{number}" for number, kind in enumerate(labels, start=first)})
            named = {"k0": tr("all"), **{numbers[-1][kind]: label for kind, label in labels.items()}}
            buttons += ("<br>" if buttons else "") + _radio_buttons(f"f{self._num_filters}", named)
        body = (
            f'<details class="card {_classes(card, numbers)}"><summary dir="auto">{_safe(card.title)}</summary>'
            f"{''.join(_part(*part) for part in card.parts)}</details>"
            for card in cards
        )
        self._add(f'<div class="cards" role="group">{buttons}{"".join(body)}</div>')

    def figure(self, figure: "Figure", caption: str) -> None:
        """A matplotlib figure; the caption is also what a screen reader says."""
        light, dark = _drawn(figure, "light"), _drawn(figure, "dark")
        source = f'<source srcset="{dark}" media="(prefers-color-scheme: dark)">'
        image = f'<img src="{light}" alt="{_safe(caption)}">'
        self._add(f"<figure><picture>{source}{image}</picture><figcaption>{_safe(caption)}</figcaption></figure>")

    def write(self, path: str | Path) -> None:
        """Write the page as one self-contained file."""
        with atomic_file(path, "w") as file:
            file.write(self.html())

    def html(self) -> str:
        """The page as a string."""
        style = resources.files("qianwen.runtime").joinpath("page.css").read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
        named = [title for title, _ in self._sections if title]
        links = "".join(f'<li><a href="#s{i}">{_safe(title)}</a></li>' for i, title in enumerate(named, start=1))
        label = _safe(tr("Contents"))
        contents = f'<nav aria-label="{label}"><ol>{links}</ol></nav>' if len(named) > 2 else ""
        parts = [_section(i, title, blocks) for i, (title, blocks) in enumerate(self._sections) if title or blocks]
        made = tr("Written by qianwen {version} on {date}", version=__version__, date=time.strftime("%Y-%m-%d %H:%M"))
        return f"""<!doctype html>
<html lang="{"zh-Hans" if self.language == "zh" else _safe(self.language)}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'sha256-{digest}'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{_safe(self.title)}</title>
<style>{style}</style>
</head>
<body>
<header><h1 dir="auto">{_safe(self.title)}</h1><p>{_safe(made)}</p>{contents}</header>
<main>
{chr(10).join(parts)}
</main>
</body>
</html>
"""

    def _add(self, block: str) -> None:
        self._sections[-1][1].append(block)


def new_axes(columns: int = 1, *, height: float = 3.2) -> "tuple[Figure, list[Axes]]":
    """An empty figure in the look of our reports, `columns` plots side by side, and its axes. No global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, height), layout="constrained")
    axes = [figure.add_subplot(1, columns, i + 1) for i in range(columns)]
    for plot in axes:
        plot.set_prop_cycle(color=PALETTE)
        plot.spines[["top", "right"]].set_visible(False)
        plot.grid(alpha=0.25, linewidth=0.6)
        plot.set_axisbelow(True)
        plot.tick_params(length=0, labelsize=9)
    return figure, axes


def drawn(figure: "Figure", ground: str = "light") -> bytes:
    """The figure as SVG, its text and frame in the ink of `ground`."""
    import matplotlib

    _ink(figure, INK[ground])
    drawing = io.BytesIO()
    # Text stays text, drawn by the reader's fonts: matplotlib's own has no Chinese, and warns while it measures.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "qianwen"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(drawing, format="svg", transparent=True, metadata={"Date": None})
    return drawing.getvalue()


def fixed_ink(text: "Text", color: str) -> None:
    """Give a text of a figure, which has a ground of its own, the same colour on every page."""
    text.set_color(color)
    text.set_gid(FIXED_INK)


def _section(number: int, title: str, blocks: list[str]) -> str:
    heading = f'<h2 id="s{number}" dir="auto">{_safe(title)}</h2>' if title else ""
    return f"<section>{heading}{''.join(blocks)}</section>"


def _radio_buttons(name: str, labels: Mapping[str, str]) -> str:
    """One button for each class of `labels`; `k0` is chosen at first."""
    return "".join(
        f'<input type="radio" name="{name}" id="{name}{number}" class="{number}"{" checked" * (number == "k0")}>'
        f'<label for="{name}{number}" class="{number}">{_safe(label)}</label>'
        for number, label in labels.items()
    )


def _classes(card: Card, numbers: Sequence[Mapping[str, str]]) -> str:
    return " ".join(each[kind] for each, kind in zip(numbers, (card.kind, *card.further), strict=True))


def _part(label: str, text: str) -> str:
    """A labelled text of a card; a long one is folded."""
    marked = f'<pre dir="auto">{_safe(text)}</pre>'
    if len(text) <= MAX_UNFOLDED:
        return f"<h3>{_safe(label)}</h3>{marked}"
    size = tr("{label} ({count:,} characters)", label=label, count=len(text))
    return f"<details><summary>{_safe(size)}</summary>{marked}</details>"


def _safe(text: str) -> str:
    """Escaped for elements and attributes; what HTML cannot carry becomes a visible U+FFFD."""
    return html.escape(UNPRINTABLE.sub("\ufffd", text))


def _shown(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _drawn(figure: "Figure", ground: str) -> str:
    """The figure as SVG in a data URL."""
    return "data:image/svg+xml;base64," + base64.b64encode(drawn(figure, ground)).decode("ascii")


def _ink(figure: "Figure", ink: str) -> None:
    from matplotlib.legend import Legend
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if text.get_gid() != FIXED_INK:
            text.set_color(ink)  # pyrefly: ignore
    for legend in figure.findobj(Legend):
        legend.get_frame().set_visible(False)  # pyrefly: ignore
    for axes in figure.axes:
        axes.tick_params(colors=ink)
        for spine in axes.spines.values():
            spine.set_edgecolor(ink)
            spine.set_alpha(0.35)
