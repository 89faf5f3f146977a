"""The report of a curation, as one HTML page: what went in, what came out, and what was dropped where, to be read.

Nobody knows what a filter does who has not read what it drops: every reason comes with samples, chosen by hash so that
they are the same ones until the drops change.
"""

import hashlib
import heapq
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qianwen.data.documents.drop_reasons import reason_text, stage_text
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import read_jsonl
from qianwen.runtime.page import Page, new_axes
from qianwen.runtime.translation import tr

SAMPLES = 5  # of each reason
CLUSTERS = 20
ROWS = 40  # of a table


def write_report(output: Path) -> Path:
    """Write `report.html` into a finished curation. Raises ConfigError when there is none."""
    file = output / "counts.json"
    if not file.exists():
        raise ConfigError(
            tr("{path} is not an output folder of `qianwen data curate`; run that command first", path=output)
        )
    counts = json.loads(file.read_text(encoding="utf-8"))
    page = Page(tr("Curation of {name}", name=output.resolve().name))
    kept = counts["kept"]
    page.headline(
        {
            tr("documents read"): counts["read"],
            tr("documents kept"): kept["documents"],
            tr("MB readable"): counts["bytes"] / 1e6,
            tr("MB kept"): kept["bytes"] / 1e6,
        }
    )
    _funnel(page, counts)
    _tables(page, counts)
    _lengths(page, counts)
    _scores(page, counts["scorers"])
    samples, clusters = _samples(output)
    _drops(page, samples)
    _clusters(page, clusters, counts)
    _benchmarks(page, output, counts)
    page.write(output / "report.html")
    return output / "report.html"


def _funnel(page: Page, counts: dict[str, Any]) -> None:
    page.section(tr("Funnel"))
    share = 100 / max(counts["read"], 1)
    rows = [
        (stage_text(stage), reason_text(reason), count, share * count)
        for stage, reasons in counts["dropped"].items()
        for reason, count in reasons.items()
    ]
    figure, (axes,) = new_axes(height=2.6)
    left = documents_left(counts)
    names = [tr("read"), *(f"{tr('after')} {stage_text(stage)}" for stage in counts["dropped"])]
    axes.barh(names[::-1], left[::-1])
    axes.set_xlabel(tr("documents"))
    page.figure(figure, tr("Documents left after each stage"))
    page.table([tr("stage"), tr("reason"), tr("dropped"), tr("% of all read")], rows)


def documents_left(counts: dict[str, Any]) -> list[int]:
    """How many documents were read, and how many are left after each stage."""
    dropped = [sum(reasons.values()) for reasons in counts["dropped"].values()]
    return [counts["read"] - sum(dropped[:number]) for number in range(len(dropped) + 1)]


def _tables(page: Page, counts: dict[str, Any]) -> None:
    for name, title in (
        ("lang", tr("By language")),
        ("corpus", tr("By source")),
        ("licence", tr("By licence")),
    ):
        page.section(title)
        rows = [
            (key, cell["documents"], cell["passed"], cell["kept"], cell["bytes"] / 1e6, cell["kept_bytes"] / 1e6)
            for key, cell in list(counts[f"by_{name}"].items())[:ROWS]
        ]
        header = [title, tr("readable"), tr("passed the rules"), tr("kept"), tr("MB readable"), tr("MB kept")]
        page.table(header, rows)


def _lengths(page: Page, counts: dict[str, Any]) -> None:
    page.section(tr("Lengths"))
    cells = {int(key): cell for key, cell in counts["by_length"].items()}
    if not cells:
        return
    bins = range(min(cells), max(cells) + 1)
    figure, axes = new_axes(2)
    for plot, unit, name, after in ((axes[0], 1, "documents", "kept"), (axes[1], 1e6, "bytes", "kept_bytes")):
        for shift, key, label in ((-0.2, name, tr("before")), (0.2, after, tr("after"))):
            heights = [cells.get(size, {}).get(key, 0) / unit for size in bins]
            plot.bar([size + shift for size in bins], heights, width=0.4, label=label)
        plot.set_xlabel(tr("bytes of a document, as a power of two"))
        plot.set_ylabel(tr("documents") if unit == 1 else "MB")
    axes[0].legend()
    page.figure(figure, tr("Length of documents before and after"))
    if counts["personal"]:
        page.paragraph(tr("Personal data replaced in the text:"))
        page.table([tr("kind"), tr("found")], counts["personal"].items())


def _scores(page: Page, scorers: dict[str, dict[str, Any]]) -> None:
    if not scorers:
        return
    page.section(tr("Scores"))
    figure, axes = new_axes(len(scorers))
    for plot, (name, found) in zip(axes, scorers.items(), strict=True):
        width = 1 / len(found["scores"])
        plot.bar([(place + 0.5) * width for place in range(len(found["scores"]))], found["scores"], width=0.9 * width)
        plot.set_xlabel(name)
        plot.set_ylabel(tr("documents"))
    page.figure(figure, tr("Scores of the documents that passed the rules and deduplication"))
    header = [tr("scorer"), tr("documents scored"), tr("below the threshold")]
    page.table(header, [(name, sum(found["scores"]), found["below"]) for name, found in scorers.items()])


def _dropped(output: Path) -> Iterator[dict[str, Any]]:
    for file in sorted((output / "dropped").glob("*.jsonl.zst")):
        yield from read_jsonl(file)


def _samples(output: Path) -> tuple[dict[tuple[str, str], list[dict[str, Any]]], dict[str, list[dict[str, Any]]]]:
    """Of each reason the SAMPLES drops of least hash, and of near and exact duplicates those of the largest groups."""
    chosen: dict[tuple[str, str], list[tuple[int, int, dict[str, Any]]]] = defaultdict(list)
    sizes: Counter[str] = Counter()
    for number, row in enumerate(_dropped(output)):
        if row["stage"] == "duplicates":
            sizes[row["detail"]] += 1
        mark = hashlib.blake2b((row["source"] + row["head"]).encode("utf-8", "replace"), digest_size=8).digest()
        entry = (-int.from_bytes(mark, "big"), number, row)
        heap = chosen[row["stage"], row["reason"]]
        heapq.heappush(heap, entry) if len(heap) < SAMPLES else heapq.heappushpop(heap, entry)
    largest = {source for source, _ in sizes.most_common(CLUSTERS)}
    clusters: dict[str, list[dict[str, Any]]] = {source: [] for source, _ in sizes.most_common(CLUSTERS)}
    for row in _dropped(output):
        if row["stage"] == "duplicates" and row["detail"] in largest:
            clusters[row["detail"]].append(row)
    return {key: [row for _, _, row in sorted(heap, reverse=True)] for key, heap in sorted(chosen.items())}, clusters


def _drops(page: Page, samples: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    page.section(tr("What was dropped"))
    for (stage, reason), rows in samples.items():
        page.paragraph(f"{stage_text(stage)}: {reason_text(reason)}")
        for row in rows:
            detail = f" → {row['detail']}" if row["detail"] else ""
            page.text(f"{row['source']} {row['lang']}{detail}\n{row['head']}")


def _clusters(page: Page, clusters: dict[str, list[dict[str, Any]]], counts: dict[str, Any]) -> None:
    page.section(tr("Duplicates"))
    message = tr(
        "{candidates:,} candidate pairs (equal in a MinHash band) were compared; {pairs:,} reached the threshold.",
        candidates=counts["pairs"]["candidates"],
        pairs=counts["pairs"]["pairs"],
    )
    page.paragraph(message)
    rows = [
        (source, len(found), ", ".join(row["source"] for row in found[:3]), found[0]["head"][:120])
        for source, found in clusters.items()
    ]
    page.table([tr("kept"), tr("dropped as duplicates"), tr("sample documents"), tr("begins")], rows)


def _benchmarks(page: Page, output: Path, counts: dict[str, Any]) -> None:
    found = counts["benchmarks"]
    if not found["texts"]:
        return
    page.section(tr("Benchmarks"))
    message = tr(
        "{texts:,} benchmark texts were searched for, {found:,} were found; {short:,} were too short.",
        texts=found["texts"],
        short=found["too_short"],
        found=found["found"],
    )
    page.paragraph(message)
    contamination = json.loads((output / "contamination.json").read_text(encoding="utf-8"))
    rows = [(name, len(texts), sum(texts.values())) for name, texts in contamination.items()]
    page.table([tr("benchmark"), tr("texts found"), tr("documents dropped")], rows)
