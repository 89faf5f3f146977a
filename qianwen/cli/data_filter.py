"""`qianwen data train-filter LABELS OUTPUT --test LABELS`: the ensemble of filters, fitted, measured and shown."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from qianwen.runtime.log import console
from qianwen.runtime.translation import tr


@dataclass(frozen=True)
class TrainFilter:
    """Fit rule score, quality, safety and perplexity to labelled texts, calibrate them, weigh their vote, and report.

    A row is {"text", "label", "lang", "source"}; labels are good, low (not worth learning from) and unfit (abuse,
    obscenity).
    """

    labels: tyro.conf.Positional[str]
    """JSON lines (.gz, .zst) to learn from."""
    output: tyro.conf.Positional[str]
    """Folder to write; `qianwen data curate --filter FOLDER` uses it."""
    test: str
    """JSON lines of sources that are not in the first file: what the report measures and shows."""


def train_filter(asked: TrainFilter) -> int:
    """Fit, save, measure, print."""
    from qianwen.data.filters.filter_report import Judged, write_report
    from qianwen.data.filters.vote import train
    from qianwen.runtime.errors import DataError
    from qianwen.runtime.files import read_jsonl

    rows, unseen = list(read_jsonl(asked.labels)), list(read_jsonl(asked.test))
    for path, some in ((asked.labels, rows), (asked.test, unseen)):
        for number, row in enumerate(some, start=1):
            if not all(isinstance(row.get(key), str) for key in ("text", "label", "lang", "source")):
                raise DataError(
                    tr("{path}, row {number}: text, label, lang or source is missing", path=path, number=number)
                )
    if not unseen or (both := {row["source"] for row in rows} & {row["source"] for row in unseen}):
        shared = ", ".join(sorted(both)) if unseen else tr("no rows")
        raise DataError(
            tr(
                "the test file {path} must have other sources than the training file; both have {shared}",
                path=asked.test,
                shared=shared,
            )
        )
    ensemble = train(rows)
    folder = Path(asked.output)
    ensemble.save(folder / "filter")
    measured = write_report(folder, Judged(ensemble, unseen))
    names = list(measured["all"])
    console.print(f"{'':<28}" + "".join(f"{lang:>10}" for lang in measured), style="dim")
    for name in names:
        console.print(f"{name:<28}" + "".join(f"{numbers[name]:>10.4f}" for numbers in measured.values()))
    console.print(tr("documents that each filter drops, for review: {path}", path=folder / "report.html"))
    console.print(tr("next: {command}", command=f"qianwen data curate … --filter {folder / 'filter'}"))
    return 0
