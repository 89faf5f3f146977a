"""The dataset card: what a corpus is, where it comes from and under which licences, as `README.md` in its folder.

Its head is the YAML that dataset hubs read. It is made from counts alone, so it says what was done, not what was meant.
A card beside a manifest is about a corpus and no document of it: the readers pass it over.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qianwen.data.documents.drop_reasons import reason_text, stage_text
from qianwen.data.documents.readers import CARD
from qianwen.runtime.files import atomic_file
from qianwen.runtime.translation import tr

ROWS = 50  # of a table


def write_card(path: Path, title: str, facts: Mapping[str, Any], sections: Mapping[str, str]) -> None:
    """A card: `facts` are the head's fields (None and empty ones are left out), `sections` Markdown by heading."""
    head = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in facts.items() if value]
    body = [f"## {heading}\n\n{text.strip()}\n" for heading, text in sections.items() if text.strip()]
    with atomic_file(path, "w") as file:
        file.write("\n".join(["---", *head, "---", "", f"# {title}", "", *body]))


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown; what is in a cell stays in it."""
    lines = [list(header), ["---"] * len(header), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def curation_card(output: Path, counts: Mapping[str, Any], passed: str) -> None:
    """The card of a curation whose documents are in `output/documents`."""
    kept = counts["kept"]
    licences = {name: cell for name, cell in counts["by_licence"].items() if cell["kept"]}
    facts = {
        "license": sorted(licences),
        "language": sorted(name for name, cell in counts["by_lang"].items() if cell["kept"]),
        "size_categories": [_size_category(kept["documents"])],
        "configs": [{"config_name": "default", "data_files": "documents/*.parquet"}],
    }
    dropped = [
        (stage_text(stage), reason_text(reason), f"{number:,}")
        for stage, reasons in counts["dropped"].items()
        for reason, number in reasons.items()
    ]
    benchmarks = counts["benchmarks"]
    sections = {
        tr("Description"): tr(
            "{documents:,} document{documents:plural}, {bytes:,} bytes of text, of {read:,} that were read.",
            documents=kept["documents"],
            bytes=kept["bytes"],
            read=counts["read"],
        ),
        tr("Sources"): _by(tr("source"), counts["by_corpus"]),
        tr("Licences"): _by(tr("licence"), licences),
        tr("Languages"): _by(tr("language"), counts["by_lang"]),
        tr("Filters"): tr("Filters that every document passed: {filters}.", filters=passed),
        tr("What was dropped"): table([tr("stage"), tr("reason"), tr("documents")], dropped),
        tr("Personal data"): tr(
            "Replaced in the text, found by patterns: {found}. Names and addresses of people were not searched for.",
            found=", ".join(f"{number:,} × {kind}" for kind, number in counts["personal"].items()) or "0",
        ),
        tr("Benchmarks"): tr(
            "{texts:,} benchmark texts were searched for, {found:,} were found; {short:,} were too short.",
            texts=benchmarks["texts"],
            short=benchmarks["too_short"],
            found=benchmarks["found"],
        ),
        tr("Opting out"): tr(
            "Pages marked `noai`, `noml`, `noindex` or `tdm-reservation: 1`, or on the blocklist, were dropped."
        ),
    }
    write_card(output / CARD, output.resolve().name, facts, sections)


def fetched_card(folder: Path, name: str, fetched: Iterable[Any]) -> None:
    """The card of named corpora (`sources.Fetched`) in `folder`."""
    rows = [
        (row.name, row.title, row.licence, f"{row.num_documents:,}", f"{row.num_bytes:,}", row.sha256)
        for row in fetched
    ]
    header = [tr("source"), tr("description"), tr("licence"), tr("documents"), tr("bytes"), "sha256"]
    facts = {
        "license": sorted({row[2] for row in rows}),
        "configs": [{"config_name": row[0], "data_files": f"{row[0]}.jsonl"} for row in rows],
    }
    write_card(folder / CARD, name, facts, {tr("Sources"): table(header, rows)})


def _by(heading: str, cells: Mapping[str, Mapping[str, int]]) -> str:
    kept = [(name, f"{c['kept']:,}", f"{c['kept_bytes']:,}") for name, c in cells.items() if c["kept"]]
    return table([heading, tr("documents"), tr("bytes")], kept[:ROWS])


def _cell(value: object) -> str:
    return str(value).replace("|", r"\|").replace("\n", " ").replace("<", "&lt;")


def _size_category(documents: int) -> str:
    """The hub's words for how many rows there are."""
    steps = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]
    steps += [(10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B")]
    return next((name for most, name in steps if documents < most), "n>1B")
