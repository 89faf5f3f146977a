"""A whole curation beside datatrove's same stages: crawl files to deduplicated documents on two cores, and its memory.

    python benchmarks/curation.py [--megabytes 25] [--largest 2000] [--pages FOLDER] [--quick] [--json PATH]

Both read the same WARC files: main text, language, the rules of Gopher, C4 and FineWeb, personal data, MinHash over
what is left. datatrove is given the fastest way to split words. Then ours alone reads 100 and `--largest` megabytes of
HTML: the memory must not grow with the input. `--pages` keeps what was generated for the next time.
"""

from __future__ import annotations

import cProfile
import shutil
import sys
import tempfile
import time
from pathlib import Path

from measured import environment, measured, seconds_of
from pairs import Report, alternate, arguments
from peers import peer_path
from planted import write_pages

HERE = Path(__file__).resolve()
STAGES = {  # of a profile in one process: a function of each stage
    "reading the crawl": ("documents/crawl_files.py", "_page"),
    "main text": ("documents/extract.py", "page_text"),
    "repair": ("documents/extract.py", "repair"),
    "language": ("documents/language_id.py", "languages"),
    "personal data": ("documents/pii.py", "scrub"),
    "rules": ("curate/rules.py", "reasons"),
    "keys and signatures": ("curate/filter_part.py", "_table"),
    "duplicates": ("curate/corpus_duplicates.py", "write_duplicates"),
    "last pass": ("curate/finish_part.py", "finish_part"),
}


def ours(folder: str, output: str, _: str) -> None:
    """Curate in this process and its workers, and say how long that took."""
    from qianwen.data.curate.curation import curate
    from qianwen.data.curate.filter_part import CurateConfig

    began = time.perf_counter()
    curate([folder], Path(output), CurateConfig(), workers=2)
    print(seconds_of(began))


def stages(folder: Path, output: Path, megabytes: float) -> dict[str, float]:
    """MB of HTML per second of each stage, on one core."""
    from qianwen.data.curate.curation import curate
    from qianwen.data.curate.filter_part import CurateConfig

    profile = cProfile.Profile(builtins=False, subcalls=False)
    profile.runcall(curate, [str(folder)], output, CurateConfig(), workers=1)
    times: dict[str, float] = {}
    for entry in profile.getstats():
        if not isinstance(entry.code, str):
            for name, (file, function) in STAGES.items():
                if entry.code.co_name == function and entry.code.co_filename.endswith(f"data/{file}"):
                    times[name] = times.get(name, 0.0) + entry.totaltime
    times["reading the crawl"] -= times["main text"]
    times["main text"] -= times["repair"] / 2  # it repairs what it extracts, and the screening repairs again
    return {name: round(megabytes / seconds, 1) for name, seconds in times.items() if seconds > 0}


def main() -> None:
    options = arguments(__doc__, megabytes=25, largest=2000, pages="")
    megabytes = 5 if options.quick else options.megabytes
    report = Report(f"Curation of {megabytes} MB of web pages on two cores", "MB/s of HTML")
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        pages = Path(options.pages or work / "pages")
        given = _pages(pages, megabytes)
        most: dict[str, float] = {}
        left: dict[str, int] = {}

        def run(name: str, command: list[str], given: Path = given, size: float = megabytes) -> float:
            output = work / name
            shutil.rmtree(output, ignore_errors=True)
            found = measured([*command, str(given), str(output), "split"], env=environment())
            most[name] = max(most.get(name, 0), found.megabytes)
            return size / found.seconds

        us = [sys.executable, str(HERE), "--child"]
        peer = [peer_path("datatrove"), str(HERE.parent / "datatrove_peer.py"), "curate"]
        pairs = alternate(
            lambda: run("ours", us), lambda: run("datatrove", peer), 1 if options.quick else options.pairs
        )
        report.add("from WARC to deduplicated documents", pairs)
        left["ours"], left["datatrove"] = _left(work)
        report.note("documents kept", left)
        report.note("MB/s of each stage, one core", stages(given, work / "profiled", megabytes))
        if not options.quick:
            for size in (100, options.largest):
                speed = run(f"ours, {size} MB", us, _pages(pages, size), size)
                report.note(f"{size} MB", f"{speed:.1f} MB/s")
        report.note("peak memory, MB", {name: round(value) for name, value in most.items()})
    report.finish({"vs_datatrove": pairs.ratio}, options.json)


def _pages(folder: Path, megabytes: int) -> Path:
    """So many megabytes of pages, made unless they are there."""
    made = folder / str(megabytes)
    if not made.exists():
        write_pages(folder / f"{megabytes}.part", megabytes)
        (folder / f"{megabytes}.part").rename(made)
    return made


def _left(work: Path) -> tuple[int, int]:
    from pyarrow import parquet

    ours_ = sum(parquet.read_metadata(file).num_rows for file in (work / "ours" / "documents").glob("*.parquet"))
    return ours_, sum(len(file.read_text().splitlines()) for file in (work / "datatrove/documents").glob("*.jsonl"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        ours(*sys.argv[2:5])
    else:
        main()
