"""The HTML of the label page. Every text of the data goes through `_safe`."""

from __future__ import annotations

import html
from collections import Counter
from typing import NamedTuple

from starlette.responses import HTMLResponse

from qianwen.align.abilities import ABILITIES
from qianwen.align.choosing.labels import MARKS, LabelFile, LabelledRow
from qianwen.align.choosing.parts import Part, parts_of
from qianwen.runtime.translation import language, tr

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'"
)
SHOWN = ("", "unmarked", "flag", "keep", "drop", "checks")
# action → the preferred side; in half of the pairs the sides are swapped, so that the order tells nothing
SIDES = {
    False: {"prefer-a": "chosen", "prefer-b": "rejected", "prefer-equal": "equal"},
    True: {"prefer-a": "rejected", "prefer-b": "chosen", "prefer-equal": "equal"},
}


class Filter(NamedTuple):
    """Which rows are shown: by their mark or checks, and by their ability; empty: all."""

    show: str = ""
    ability: str = ""


def matches(row: LabelledRow, wanted: Filter) -> bool:
    """Whether the filter shows a row. A ranked pair counts as marked."""
    is_marked = bool(row.label.mark or row.label.preference)
    shown = {
        "unmarked": not is_marked, "checks": bool(row.checks), **{mark: row.label.mark == mark for mark in MARKS}
    }  # fmt: skip
    return shown.get(wanted.show, True) and wanted.ability in ("", row.label.ability)


def label_page(labels: LabelFile, index: int | None, wanted: Filter, *, notice: str = "") -> HTMLResponse:
    """The page of one row; None: the filter shows no row."""
    body = f"<h1>{_safe(labels.path.name)}</h1>{_summary(labels)}{_filter_form(wanted)}"
    if notice:
        body += f'<p role="status">{_safe(tr("written: {path}", path=notice))}</p>'
    body += f"<p>{_safe(tr('No row matches the filter.'))}</p>" if index is None else _form(labels, index, wanted)
    document = f"""<!doctype html>
<html lang="{"zh-Hans" if language() == "zh" else "en"}">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_safe(tr("Label"))} · qianwen</title><link rel="stylesheet" href="/label.css"></head>
<body><main class="label">{body}</main><script src="/label.js"></script></body>
</html>
"""
    # with no-referrer the form would send "Origin: null", which the gate refuses as another site
    headers = {"content-security-policy": POLICY, "referrer-policy": "same-origin", "cache-control": "no-store"}
    return HTMLResponse(document, headers=headers)


def _summary(labels: LabelFile) -> str:
    rows = labels.rows
    marks = Counter(row.label.mark for row in rows)
    done = sum(not matches(row, Filter("unmarked")) for row in rows)
    counts = [tr("{done:,} of {all:,} marked", done=done, all=len(rows))]
    counts += [f"{mark_names()[mark]} {marks[mark]:,}" for mark in MARKS]
    checks = Counter(name for row in rows for name in row.checks)
    counts += [f"{check_names()[name]} {count:,}" for name, count in checks.most_common()]
    if labels.num_unusable:
        counts.append(tr("{count:,} row{count:plural} cannot be read", count=labels.num_unusable))
    return f'<p class="hint" id="counts">{_safe(" · ".join(counts))}</p>'


def _filter_form(wanted: Filter) -> str:
    shows = {"": tr("all rows"), "unmarked": tr("unmarked"), "checks": tr("with a finding"), **mark_names()}
    abilities = {"": tr("all abilities"), **{name: name for name in ABILITIES}}
    return (
        f'<form class="row" method="get" action="/">{_menu("show", shows, wanted.show, tr("Filter"))}'
        f"{_menu('ability', abilities, wanted.ability, tr('Ability'))}<button>{_safe(tr('Apply'))}</button></form>"
    )


def _form(labels: LabelFile, index: int, wanted: Filter) -> str:
    row = labels.rows[index]
    hidden = {"row": index, "key": row.key, "show": wanted.show, "ability-filter": wanted.ability}
    fields = "".join(f'<input type="hidden" name="{name}" value="{_safe(value)}">' for name, value in hidden.items())
    found = ", ".join(check_names()[name] for name in row.checks)
    checks = f'<p class="problem" id="checks">{_safe(found)}</p>' if found else ""
    names = {name: name for name in ("", *ABILITIES)}
    if row.label.ability not in names:
        names[row.label.ability] = row.label.ability
    details = (
        f'<div class="row">{_menu("ability", names, row.label.ability, tr("Ability"))}'
        f'<label for="note">{_safe(tr("Note"))}</label><input id="note" name="note" value="{_safe(row.label.note)}">'
        "</div>"
    )
    place = tr("Row {number:,} of {all:,}", number=index + 1, all=len(labels.rows))
    return (
        f'<form method="post" action="/save" id="row-form">{fields}<h2 id="place">{_safe(place)}</h2>{checks}'
        f'<button id="save" name="action" value="save">{_safe(tr("Save"))}</button>'
        f"{_parts(row)}{details}{_actions(row)}</form>"
    )


def _parts(row: LabelledRow) -> str:
    order = ("prompt", "rejected", "chosen") if row.is_swapped else ("prompt", "chosen", "rejected", "messages")
    numbered = list(enumerate(parts_of(row.original)))
    out = []
    for side in order:
        parts = [(number, part) for number, part in numbered if part.side == side]
        if side in ("chosen", "rejected"):
            out.append(f"<h2>{_safe(tr('Answer {name}', name='AB'[side != order[1]]))}</h2>")
        out += [_part(number, part, row.label.texts.get(number, part.text)) for number, part in parts]
    return "".join(out)


def _part(number: int, part: Part, text: str) -> str:
    title = f'<label for="text-{number}">{_safe(part_names()[part.kind])}</label>'
    if part.kind in ("system", "user"):
        return (
            f'<section class="{part.kind}"><h2>{_safe(part_names()[part.kind])}</h2><pre>{_safe(text)}</pre></section>'
        )
    # HTML drops a newline right after the tag, so one is added
    box = f'<textarea id="text-{number}" name="text-{number}" rows="3">\n{_safe(text)}</textarea>'
    return f'<section class="{part.kind}">{title}{box}</section>'


def _actions(row: LabelledRow) -> str:
    names = {mark: (f"{name} ({mark[0]})", row.label.mark == mark) for mark, name in mark_names().items()}
    if row.is_pair:
        chosen = row.label.preference
        titles = {"prefer-a": tr("A is better"), "prefer-b": tr("B is better"), "prefer-equal": tr("equally good")}
        sides = SIDES[row.is_swapped]
        ranks = {name: (f"{titles[name]} ({n})", chosen == sides[name]) for n, name in enumerate(titles, start=1)}
        names = ranks | names
    marks = "".join(_button(name, title, is_on=is_on) for name, (title, is_on) in names.items())
    others = {"clear": tr("Remove the mark"), "previous": f"← {tr('Back')}", "next": f"{tr('Next')} →"}
    moves = "".join(_button(name, title) for name, title in {**others, "export": tr("Export")}.items())
    return f'<div class="row">{marks}</div><div class="row">{moves}</div>'


def _button(name: str, title: str, *, is_on: bool | None = None) -> str:
    pressed = "" if is_on is None else f' aria-pressed="{"true" if is_on else "false"}"'
    return f'<button id="{name}" name="action" value="{name}"{pressed}>{_safe(title)}</button>'


def _menu(name: str, choices: dict[str, str], chosen: str, title: str) -> str:
    options = "".join(
        f'<option value="{_safe(value)}"{" selected" if value == chosen else ""}>{_safe(text)}</option>'
        for value, text in choices.items()
    )
    return f'<select name="{name}" aria-label="{_safe(title)}">{options}</select>'


def mark_names() -> dict[str, str]:
    """The marks in the user's language."""
    return {"keep": tr("keep"), "drop": tr("drop"), "flag": tr("flag")}


def check_names() -> dict[str, str]:
    """The checks in the user's language."""
    return {
        "empty": tr("empty answer"), "refusal": tr("refusal"), "long": tr("very long answer"),
        "repeated": tr("repeated text"), "arguments": tr("invalid arguments"), "language": tr("another language"),
    }  # fmt: skip


def part_names() -> dict[str, str]:
    """The kinds of parts in the user's language."""
    return {
        "system": tr("System"), "user": tr("User"), "assistant": tr("Assistant"), "thought": tr("Thought"),
        "action": tr("Action"), "input": tr("Action input"), "observation": tr("Observation"),
    }  # fmt: skip


def _safe(text: object) -> str:
    return html.escape(str(text))
