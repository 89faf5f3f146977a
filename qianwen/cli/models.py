"""`qianwen models`: list the models on this disk, and whether they fit in the memory of this machine."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size

from qianwen.cli.arguments import parse
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

if TYPE_CHECKING:
    from qianwen.checkpoints.cached_models import CachedModel

GB = 1e9
RIGHT = (2, 3, 4)  # columns of numbers
USEFUL_CONTEXT = 512  # tokens; a model with room for fewer does not fit


@dataclass(frozen=True, kw_only=True)
class ModelsOptions:
    """List the models in the caches of the hubs, in the weights folder and in the runs folder.

    Give a name of the first column as MODEL to any command. A model fits if its weights and a short text fit in free
    memory; "to N" is the longest text that fits if that is less than the model's context.
    """

    json: bool = False
    """Print a JSON list instead of a table."""


def models(argv: list[str]) -> int:
    """Print the table or the list."""
    options = parse(ModelsOptions, "qianwen models", argv)
    from qianwen.checkpoints.cached_models import cached_models
    from qianwen.runtime.device import best_device, free_memory_bytes

    free = free_memory_bytes(best_device())
    entries = [_entry(model, free) for model in cached_models()]
    if options.json:
        print(json.dumps(entries, ensure_ascii=False, indent=1))
        return 0
    if not entries:
        message = "no models here yet; `qianwen chat Qwen/Qwen2.5-0.5B-Instruct` fetches one, `qianwen demo` trains one"
        console.print(tr(message), markup=False)
        return 0
    console.print(tr("models on this disk; {free:.1f} GB of memory are free", free=free / GB))
    _print_table(_rows(entries))
    for entry in entries:
        if entry["error"]:
            console.print(f"{entry['name']}: {entry['error']}", style="yellow", markup=False)
    return 0


def _entry(model: "CachedModel", free: float) -> dict[str, Any]:
    """The JSON object of a model; numbers that are not known are null."""
    entry: dict[str, Any] = {"name": model.name, "place": model.place, "path": str(model.path), "error": model.error}
    if (facts := model.facts) is None:
        return entry | dict.fromkeys(("kind", "size_bytes", "bits", "context", "fits", "fitting_context", "sampling"))
    fitting = facts.fitting_context(free)
    needed = None if facts.context is None else min(USEFUL_CONTEXT, facts.context)
    return entry | {
        "kind": facts.kind,
        "base": facts.base or None,
        "size_bytes": facts.size,
        "bits": facts.bits,
        "context": facts.context,
        "fits": None if fitting is None or needed is None else fitting >= needed,
        "fitting_context": fitting,
        "sampling": dict(facts.sampling.sampling),
        "sampling_source": facts.sampling.source,
    }


def _rows(entries: list[dict[str, Any]]) -> list[list[str]]:
    """Heading and one row for each model; a name is never cut, because it is copied into commands."""
    rows = [[tr("name"), tr("kind"), "GB", tr("bits"), tr("context"), tr("fits here"), tr("sampling")]]
    for entry in entries:
        if entry["error"]:
            rows.append([_short(entry["name"]), tr("not usable"), "", "", "", "", ""])
            continue
        kind = tr("adapter of {base}", base=entry["base"]) if entry["base"] else entry["kind"]
        sampling = ", ".join(f"{name} {value:g}" for name, value in entry["sampling"].items())
        numbers = [f"{entry['size_bytes'] / GB:.2f}", _number(entry["bits"]), _number(entry["context"])]
        rows.append(
            [_short(entry["name"]), kind, *numbers, _fit(entry), "" if entry["base"] else sampling or tr("neutral")]
        )
    return rows


def _print_table(rows: list[list[str]]) -> None:
    widths = [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [
            " " * (width - cell_len(text)) + text if column in RIGHT else set_cell_size(text, width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        console.print("  ".join(cells).rstrip(), style="" if number else "dim", markup=False)


def _fit(entry: dict[str, Any]) -> str:
    if entry["fits"] is None:
        return ""
    if not entry["fits"]:
        return tr("no")
    if entry["fitting_context"] < entry["context"]:
        return tr("to {tokens:,}", tokens=entry["fitting_context"])
    return tr("yes")


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _short(name: str) -> str:
    """A path below the home folder with `~`, as a shell accepts it."""
    home = str(Path.home())
    return f"~{name[len(home) :]}" if name.startswith(f"{home}/") else name
