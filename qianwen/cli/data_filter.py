"""`qianwen data train-filter LABELS OUTPUT --test LABELS`: train and test the ensemble of quality filters."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from qianwen.runtime.errors import DataError
from qianwen.runtime.files import read_jsonl
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr


@dataclass(frozen=True)
class TrainFilter:
    """Train the filter ensemble on labelled texts: rule score, quality, safety and perplexity, calibrated and weighted.

    A row is {"text", "label", "lang", "source"}. Labels: good, low (poor quality), unfit (abuse, obscenity).
    """

    labels: tyro.conf.Positional[str]
    """Training rows as JSON lines (.gz, .zst)."""
    output: tyro.conf.Positional[str]
    """Output folder; pass its filter/ to `qianwen data curate --filter FOLDER`."""
    test: str
    """Test rows as JSON lines, from other sources than the training rows; the report measures the ensemble on them."""
    calibrate: str = ""
    """Rows of further sources as JSON lines; they set the limits of the filter, and no member is trained on them."""


def train_filter(options: TrainFilter) -> int:
    """Train and save the ensemble, test it, print the metrics."""
    from qianwen.data.filters.filter_report import Judged, write_report
    from qianwen.data.filters.vote import train

    rows, unseen = _labelled(options.labels), _labelled(options.test)
    calibration = _labelled(options.calibrate) if options.calibrate else []
    _check_sources(options.test, unseen, [*rows, *calibration])
    if calibration:
        _check_sources(options.calibrate, calibration, rows)
    ensemble = train(rows, calibration=calibration)
    folder = Path(options.output)
    ensemble.save(folder / "filter")
    measured = write_report(folder, Judged(ensemble, unseen))
    names = list(measured["all"])
    console.print(f"{'':<28}" + "".join(f"{lang:>10}" for lang in measured), style="dim")
    for name in names:
        console.print(f"{name:<28}" + "".join(f"{numbers[name]:>10.4f}" for numbers in measured.values()))
    console.print(tr("documents that each filter drops, for review: {path}", path=folder / "report.html"))
    console.print(tr("next: {command}", command=f"qianwen data curate … --filter {folder / 'filter'}"))
    return 0


def _labelled(path: str) -> list[dict[str, str]]:
    """The rows of a label file."""
    rows = list(read_jsonl(path))
    for number, row in enumerate(rows, start=1):
        if not all(isinstance(row.get(key), str) for key in ("text", "label", "lang", "source")):
            raise DataError(
                tr("{path}, row {number}: text, label, lang or source is missing", path=path, number=number)
            )
    return rows


def _check_sources(path: str, rows: list[dict[str, str]], others: list[dict[str, str]]) -> None:
    """No source may be in two files: members know the sources they were trained on."""
    both = {row["source"] for row in rows} & {row["source"] for row in others}
    if not rows or both:
        shared = ", ".join(sorted(both)) or tr("no rows")
        raise DataError(
            tr(
                "{path} must have other sources than the other label files; both have {shared}",
                path=path,
                shared=shared,
            )
        )
