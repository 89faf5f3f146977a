"""Global fuzzy deduplication beside datatrove's own MinHash pipeline: documents/s, precision, recall.

    python benchmarks/dedup.py [--documents 100000] [--words split|default] [--ray 1] [--quick] [--json PATH]

Both read the same JSON lines on two cores and write what is left. The documents are sentences of the standard library's
documentation; a fifth are edits of others, and for each pair the likeness of its runs of five words is known. datatrove
splits words at white space, which is the fastest it can be given, or with `--words default` as it comes, by spaCy.

    recall       of the pairs of likeness 0.8 or more: the share of which one document was dropped
    precision    of the documents dropped: the share that were such a pair's

`--ray 1` runs ours on a Ray cluster of this machine too, and says whether it wrote the same.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from measured import environment, measured, seconds_of
from pairs import Report, alternate, arguments
from peers import peer_path
from planted import Edit, documents, write_documents

HERE = Path(__file__).resolve()
FILES = 8  # of the input
LIKE = 0.8
WORDS = {"split": "white space", "default": "spaCy, as it comes"}


def ours(folder: str, output: str, ray: str) -> None:
    """Deduplicate in this process and its workers, and say how long that took."""
    from qianwen.data import worker_pool
    from qianwen.data.curate.curation import curate
    from qianwen.data.curate.filter_part import CurateConfig

    worker_pool.use(ray)
    began = time.perf_counter()
    curate([folder], Path(output), CurateConfig(rules=(), identify=False, scrub=False), workers=2)
    print(seconds_of(began))


def kept_by_us(output: Path) -> set[int]:
    from pyarrow import parquet

    files = sorted((output / "documents").glob("*.parquet"))
    return {int(name) for file in files for name in parquet.read_table(file, columns=["source"])["source"].to_pylist()}


def kept_by_peer(output: Path) -> set[int]:
    rows = [line for file in (output / "documents").glob("*.jsonl") for line in file.open(encoding="utf-8")]
    return {int(json.loads(row)["id"]) for row in rows}


def quality(kept: set[int], count: int, edits: list[Edit]) -> dict[str, float]:
    """Precision and recall of what was dropped."""
    alike = [edit for edit in edits if edit.likeness >= LIKE]
    found = sum(len({edit.original, edit.edited} & kept) < 2 for edit in alike)
    dropped = set(range(count)) - kept
    justified = {place for edit in alike for place in (edit.original, edit.edited)}
    return {
        "recall": found / max(len(alike), 1),
        "precision": len(dropped & justified) / max(len(dropped), 1),
        "dropped": len(dropped),
        "pairs": len(alike),
    }


def digest(output: Path) -> str:
    """A hash over the shards of a curation."""
    files = sorted((output / "documents").glob("*.parquet"))
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()


def main() -> None:
    options = arguments(__doc__, documents=100_000, ray=0, words="split")
    count = 5_000 if options.quick else options.documents
    report = Report(f"Deduplication of {count:,} documents on two cores", "documents/s")
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        texts, edits = documents(count)
        write_documents(work / "in", texts, FILES)
        report.note("input, MB", round(sum(file.stat().st_size for file in (work / "in").iterdir()) / 1e6))
        del texts
        most: dict[str, float] = {}

        def run(name: str, command: list[str]) -> float:
            output = work / name
            shutil.rmtree(output, ignore_errors=True)
            found = measured([*command[:-1], str(work / "in"), str(output), command[-1]], env=environment())
            most[name] = max(most.get(name, 0), found.megabytes)
            return count / found.seconds

        peer = [peer_path("datatrove"), str(HERE.parent / "datatrove_peer.py"), "dedup", options.words]
        us = [sys.executable, str(HERE), "--child", ""]
        pairs = alternate(
            lambda: run("ours", us), lambda: run("datatrove", peer), 1 if options.quick else options.pairs
        )
        report.add(f"datatrove, words by {WORDS[options.words]}", pairs)
        report.note("ours", quality(kept_by_us(work / "ours"), count, edits))
        report.note("datatrove", quality(kept_by_peer(work / "datatrove"), count, edits))
        if options.ray:
            speed = run("ray", [peer_path("ray"), str(HERE), "--child", "local"])
            same = digest(work / "ours") == digest(work / "ray")
            report.note("on Ray", f"{speed:,.0f} documents/s, {'the same shards' if same else 'OTHER SHARDS'}")
        report.note("memory, MB", {name: round(value) for name, value in most.items()})
    report.finish({"vs_datatrove": pairs.ratio}, options.json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        ours(*sys.argv[2:5])
    else:
        main()
