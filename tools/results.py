"""docs/results.md from the JSON files that the benchmarks write to benchmarks/results (`--json PATH`).

    make results

`results.toml` and the files in `results_chapters` say what the page shows: sections, tables, and the name of every row
and column. The numbers come from the JSON files alone. A file or a pair of measurements that no table shows is an
error, so a new benchmark cannot be forgotten. How a number is printed is in `result_values.py`.
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from result_values import Results, cell, machine_name, number, versions_of

from qianwen.runtime.files import atomic_file

ROOT = Path(__file__).resolve().parents[1]
LAYOUT = ROOT / "tools/results.toml"
CHAPTERS = ROOT / "tools/results_chapters"


class Kind(NamedTuple):
    """Of a claim: the better direction, the verdicts, and how far from 1 a ratio may be to be called equal."""

    better: str
    good: str
    bad: str
    equal: str = "equal"
    margin: float = 0.05


KINDS = {
    "speed": Kind("higher", "faster", "slower"),
    "time": Kind("lower", "faster", "slower"),
    "memory": Kind("lower", "less memory", "more memory"),
    "accuracy": Kind("higher", "better", "worse", margin=0.01),
    "loss": Kind("lower", "better", "worse", margin=0.01),
    "ceiling": Kind("higher", "above the limit", "below the limit", equal="at the limit"),
    "deadline": Kind("lower", "within the limit", "over the limit", equal="within the limit", margin=0),
}
PAIR_COLUMNS = [("ours", "ours"), ("{peer}", "peer"), ("ratio", "ratio"), ("lowest to highest ratio", "range")]


def page(results: Results, layout: dict[str, Any], chapters: list[dict[str, Any]]) -> str:
    """The whole page."""
    links = " · ".join(f"[{each['title']}](#{each['title'].lower().replace(' ', '-')})" for each in chapters)
    lines = [f"# {layout['title']}", "", layout["intro"].strip(), "", f"Chapters: {links}", ""]
    lines += ["| what | ours | peer | ratio | better | verdict | machine |", "|---|---|---|---|---|---|---|"]
    for chapter in chapters:
        lines.append(f"| **{chapter['title']}** | | | | | | |")
        for each in chapter["headline"]:
            lines += headlines(results, each)
    for chapter in chapters:
        lines += ["", f"## {chapter['title']}"]
        for each in chapter["section"]:
            lines += section(results, each, layout["columns"])
    return "\n".join([*lines, ""])


def headlines(results: Results, claims: dict[str, Any]) -> list[str]:
    """Lines of the first table: pairs of measurements, or the lowest of several pairs, or two values of a file."""
    lines = []
    for pattern, what in claims.get("rows", {}).items():
        pairs = results.pairs(claims["file"], pattern)
        pair = min(pairs.values(), key=lambda pair: pair["ratio"])
        ratio = 1 / pair["ratio"] if claims.get("show") == "inverse" else pair["ratio"]
        lines.append(headline(results, claims, what.format(count=len(pairs)), (pair["ours"], pair["peer"], ratio)))
    for each in claims.get("values", []):
        ours, peer = (results.value(claims["file"], claims["at"] + each[side]) for side in ("ours", "beside"))
        lines.append(headline(results, claims, each["what"], (ours, peer, ours / peer)))
    return lines


def headline(results: Results, claims: dict[str, Any], what: str, numbers: tuple[Any, Any, float]) -> str:
    kind, ratio = KINDS[claims["kind"]], numbers[2]
    is_good = (ratio > 1) == (kind.better == "higher")
    verdict = kind.equal if abs(ratio - 1) <= kind.margin else kind.good if is_good else kind.bad
    unit = f" {claims['unit']}" if "unit" in claims else ""
    ours, peer = (cell(value, claims.get("show", "number")) + unit for value in numbers[:2])
    machine = machine_name(results.machine(claims["file"]), is_short=True)
    cells = [what, ours, f"{peer} ({claims['peer']})", number(ratio), kind.better, verdict, machine]
    return f"| {' | '.join(cells)} |"


def section(results: Results, layout: dict[str, Any], shared: dict[str, list]) -> list[str]:
    """A heading, what was measured, where, the tables, and what is worth saying beside them."""
    files = list(dict.fromkeys(file for each in layout["table"] for file in files_of(each)))
    lines = ["", f"### {layout['title']}", "", layout["text"].strip(), "", *measured_on(results, files, layout)]
    for each in layout["table"]:
        lines += ["", *table(results, each, shared)]
    if "note" in layout:
        lines += ["", *(f"* {note(results, each)}" for each in layout["note"])]
    return lines


def measured_on(results: Results, files: list[str], layout: dict[str, Any]) -> list[str]:
    """Machine, versions and date, once where all files of a section have the same."""
    places: dict[str, list[str]] = {}
    for file in files:
        machine = results.machine(file)
        versions = versions_of(machine, layout.get("versions", []))
        places.setdefault(f"{machine_name(machine)}; {versions}; {machine['date']}", []).append(file)
    if len(places) == 1:
        return [f"Measured on: {next(iter(places))}."]
    return ["Measured on:", "", *(f"* {', '.join(map(json_link, named))}: {place}" for place, named in places.items())]


def files_of(layout: dict[str, Any]) -> list[str]:
    """The JSON files of a table: its own, those that rows name before a bar, and those of its columns."""
    columns = layout.get("columns", [])
    if columns and all("file" in column for column in columns):
        return [column["file"] for column in columns]
    named = [key.rpartition("|")[0] or layout["file"] for key in layout["rows"]]
    return list(dict.fromkeys(named))


def table(results: Results, layout: dict[str, Any], shared: dict[str, list]) -> list[str]:
    """A title, a row for each key of `rows`, and links to the script and the numbers."""
    columns = layout.get("columns", [])
    columns = shared[columns] if isinstance(columns, str) else columns
    columns = [column | {"key": layout.get("at", []) + column["key"]} for column in columns]
    if "peer" in layout:
        unit = {"ours": f", {layout['unit']}", "peer": f", {layout['unit']}"}
        pair = [(head.format(peer=layout["peer"]) + unit.get(show, ""), show) for head, show in PAIR_COLUMNS]
        columns = [{"head": head, "show": show, "key": ["rows", "{row}"]} for head, show in pair] + columns
    lines = []
    if "title" in layout:
        place = machine_name(results.machine(layout["file"]), is_short=True)
        lines = [f"**{layout['title'].format(machine=place)}**", ""]
    lines += [f"| {layout.get('head', '')} | " + " | ".join(column["head"] for column in columns) + " |"]
    lines += ["|---|" + "---:|" * len(columns)]
    for key, name in layout["rows"].items():
        file, _, row = key.rpartition("|")
        cells = [column_cell(results, column.get("file") or file or layout["file"], row, column) for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    files = files_of(layout)
    script = f"{files[0].partition('.')[0]}.py"
    return [*lines, "", f"Script: [{script}](../benchmarks/{script}) · numbers: {', '.join(map(json_link, files))}"]


def column_cell(results: Results, file: str, row: str, column: dict[str, Any]) -> str:
    """One cell: a value, and in brackets a second one where the column has `also`, `also_pick` or `also_show`."""

    def value(path: list[Any], pick: str) -> Any:
        keys = [part.replace("{row}", row) if isinstance(part, str) else part for part in path]
        return results.value(file, keys, pick=pick.replace("{row}", row), is_optional=column.get("optional", False))

    text = cell(value(column["key"], column.get("pick", "")), column["show"])
    if {"also", "also_pick", "also_show"} & column.keys():
        # `also` takes the place of as many keys at the end of the path
        path = column["key"][: -len(column["also"])] + column["also"] if "also" in column else column["key"]
        second = value(path, column.get("also_pick", ""))
        text += f" ({cell(second, column.get('also_show', column['show']))})"
    return text


def note(results: Results, layout: dict[str, Any]) -> str:
    """A sentence with values of a file: a text, the groups of `pick` in it, or the items of a list by their `names`."""
    value = results.value(layout["file"], layout["key"])
    if isinstance(value, list):
        value = ", ".join(layout["names"][item] for item in value) or "none"
    found = re.search(layout.get("pick", "(.*)"), value)
    if found is None:
        raise SystemExit(f"{layout['file']}: no {layout['pick']!r} in {value!r}")
    return f"{layout['text'].format(*found.groups())} ({json_link(layout['file'])})"


def json_link(file: str) -> str:
    return f"[{file}](../benchmarks/results/{file})"


def render() -> str:
    """The page of the files that are there."""
    files = sorted((ROOT / "benchmarks/results").glob("*.json"))
    results = Results({file.name: json.loads(file.read_text(encoding="utf-8")) for file in files})
    layout = tomllib.loads(LAYOUT.read_text(encoding="utf-8"))
    chapters = [tomllib.loads((CHAPTERS / f"{name}.toml").read_text(encoding="utf-8")) for name in layout["chapters"]]
    text = page(results, layout, chapters)
    if unused := results.unused():
        raise SystemExit(f"docs/results.md shows nothing of: {'; '.join(unused)}")
    return text


def main() -> None:
    text = render()
    with atomic_file(ROOT / "docs/results.md", "w") as file:
        file.write(text)


if __name__ == "__main__":
    main()
