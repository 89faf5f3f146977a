"""Mutation testing: make small deliberate faults in chapters of the package and see whether their tests fail.

    python tools/mutation.py engine train data quantize --faults 200 --jobs 2

Each fault is tested against the tests of its own chapter, in a copy of the checkout: first the mirrored test file, then
the others that reach the changed file. The faults depend on the seed and the source alone, and those of a smaller
number are among those of a larger one. Every result is kept in a file, so the same command goes on where it stopped;
after a change of tests it repeats the faults that were missed, after a change of a source file those of that file.

A fault that changes nothing a test could see does not count. Whether a missed fault is one is for a person to judge:
add what is printed for it to `tools/equivalent_faults.toml` with the reason.
"""

import argparse
import functools
import hashlib
import json
import signal
import sys
import tomllib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mutation_operators import Fault, compiles, faults_of
from mutation_runner import Outcome, Runner, TestsFail, runner
from relevant_tests import PACKAGE, import_graph, relevant_tests

EQUIVALENT = "tools/equivalent_faults.toml"
Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Result:
    """Of one fault; the digests say what it was found with."""

    path: str
    place: str
    before: str
    after: str
    caught: bool
    by: str
    seconds: float
    source: str
    tests: str

    @property
    def key(self) -> Key:
        return self.path, self.place, self.before, self.after


class Results:
    """A file of JSON lines: results of faults, and seconds that the tests of a chapter take without a fault."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path, self.root = path, root
        self.results: dict[Key, Result] = {}
        self.baselines: dict[str, dict[str, float]] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in lines:
            record = json.loads(line)
            if "baseline" in record:
                self.baselines[record["checkout"]] = record["baseline"]
            else:
                result = Result(**record)
                self.results[result.key] = result

    def of(self, fault: Fault) -> Result | None:
        """The result of a fault, unless what it was found with has changed since."""
        source, tests = digests(self.root, fault.path)
        result = self.results.get(fault.key)
        if result is None or result.source != source:
            return None
        return result if result.caught or result.tests == tests else None

    def add(self, fault: Fault, outcome: Outcome) -> None:
        source, tests = digests(self.root, fault.path)
        result = Result(*fault.key, **asdict(outcome), source=source, tests=tests)
        self.results[fault.key] = result
        self._append(asdict(result))

    def baseline(self, chapter: str, copies: Runner) -> dict[str, float]:
        """Seconds of every test file of a chapter without a fault, measured once for a state of the checkout."""
        files = sorted((self.root / "tests" / chapter).rglob("test_*.py"))
        key = digest([*sorted((self.root / PACKAGE).rglob("*.py")), *tests_of(self.root, chapter)])
        if key not in self.baselines:
            print(f"{chapter}: running its tests without a fault", flush=True)
            self.baselines[key] = copies.baseline([str(path.relative_to(self.root)) for path in files])
            self._append({"baseline": self.baselines[key], "checkout": key})
        return self.baselines[key]

    def _append(self, record: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def digest(paths: Iterable[Path]) -> str:
    return hashlib.blake2b(b"\0".join(path.read_bytes() for path in paths), digest_size=8).hexdigest()


@functools.cache
def digests(root: Path, path: str) -> tuple[str, str]:
    """Of a source file and of its chapter's tests, as they are when the run starts and the checkout is copied."""
    return digest([root / path]), digest(tests_of(root, Path(path).parts[1]))


def tests_of(root: Path, chapter: str) -> list[Path]:
    return [*sorted((root / "tests" / chapter).rglob("*.py")), *(root / "tests").glob("conftest.py")]


def chapter_of(fault: Fault) -> str:
    return Path(fault.path).parts[1]


def sample(root: Path, chapter: str, number: int, seed: int) -> list[Fault]:
    """Faults of a chapter in an order that the seed decides, at most one a line."""
    paths = sorted((root / PACKAGE / chapter).rglob("*.py"))
    faults = [fault for path in paths for fault in faults_of(root, str(path.relative_to(root)))]
    faults.sort(key=lambda fault: hashlib.blake2b("\0".join([str(seed), *fault.key]).encode()).digest())
    chosen: dict[tuple[str, int], Fault] = {}
    for fault in faults:
        place = fault.path, fault.line
        if len(chosen) < number and place not in chosen and compiles(fault.apply((root / fault.path).read_bytes())):
            chosen[place] = fault
    return list(chosen.values())


def run_all(faults: list[Fault], results: Results, root: Path, jobs: int) -> None:
    """Test the faults that have no result yet."""
    remaining = [fault for fault in faults if results.of(fault) is None]
    if not remaining:
        return
    graph = import_graph(root)
    tests = {fault.path: relevant_tests(root, fault.path, graph) for fault in remaining}
    with runner(root, jobs) as copies, ThreadPoolExecutor(jobs) as pool:
        chapters = {chapter_of(fault): None for fault in remaining}
        seconds = {chapter: results.baseline(chapter, copies) for chapter in chapters}
        futures = {
            pool.submit(copies.test, fault, tests[fault.path], seconds[chapter_of(fault)]): fault for fault in remaining
        }
        try:
            for number, future in enumerate(as_completed(futures), 1 + len(faults) - len(remaining)):
                fault, outcome = futures[future], future.result()
                results.add(fault, outcome)
                verdict = f"caught by {outcome.by}" if outcome.caught else "MISSED"
                line = f"[{number}/{len(faults)}] {fault.path}:{fault.line}  {outcome.seconds:.0f} s  {verdict}"
                print(line, flush=True)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            copies.stop()


def report(faults: list[Fault], results: Results, equivalent: set[Key]) -> Iterator[str]:
    """A table by chapter, and the faults that were missed as they are written in the list of equivalent ones."""
    rows = {}
    for fault in faults:
        row = rows.setdefault(chapter_of(fault), {"faults": 0, "caught": 0, "equivalent": 0, "seconds": 0.0})
        result = results.results[fault.key]
        row["faults"] += 1
        row["caught"] += result.caught
        row["equivalent"] += not result.caught and fault.key in equivalent
        row["seconds"] += result.seconds
    rows["all"] = {
        name: sum(row[name] for row in rows.values()) for name in ("faults", "caught", "equivalent", "seconds")
    }
    missed = [f for f in faults if not results.results[f.key].caught and f.key not in equivalent]
    if missed:
        yield "missed, unless they change nothing:\n"
    for fault in missed:
        yield f"# {fault.path}:{fault.line}\n[[fault]]"
        yield from (f"{name} = {toml_string(getattr(fault, name))}" for name in ("path", "place", "before", "after"))
        yield 'why = ""\n'
    yield f"{'chapter':10} faults  caught  missed  change nothing  share caught  seconds a fault"
    for chapter, row in rows.items():
        counted = row["faults"] - row["equivalent"]
        share = f"{100 * row['caught'] / counted:.1f} %" if counted else "-"
        yield (
            f"{chapter:10} {row['faults']:6}  {row['caught']:6}  {counted - row['caught']:6}  {row['equivalent']:14}"
            f"  {share:>12}  {row['seconds'] / max(row['faults'], 1):15.1f}"
        )


def toml_string(text: str) -> str:
    """A literal string where it can be one, so that code reads as in its file."""
    plain = "'''" not in text and not text.endswith("'") and "\t" not in text
    if "\n" in text:
        return f"'''\n{text}'''" if plain else json.dumps(text)
    return f"'{text}'" if "'" not in text else json.dumps(text, ensure_ascii=False)


def read_equivalent(path: Path) -> set[Key]:
    """Faults that a person has judged to change nothing."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["fault"] if path.exists() else []
    return {(entry["path"], entry["place"], entry["before"], entry["after"]) for entry in entries if entry["why"]}


def stale(equivalent: set[Key], root: Path) -> set[Key]:
    """Listed faults that can no longer be made, because their lines have changed."""
    paths = {path for path, *_ in equivalent if (root / path).exists()}
    return equivalent - {fault.key for path in paths for fault in faults_of(root, path)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("chapters", nargs="+", help="folders of the package")
    parser.add_argument("--faults", type=int, default=200, help="number of faults, spread evenly over the chapters")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="faults tested at once")
    parser.add_argument("--results", type=Path, help="default: runs/mutation.jsonl in the checkout")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the checkout")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # copies are removed on the way out
    root, parts = options.root.resolve(), len(options.chapters)
    shares = [options.faults * (i + 1) // parts - options.faults * i // parts for i in range(parts)]
    faults = [
        fault
        for chapter, number in zip(options.chapters, shares, strict=True)
        for fault in sample(root, chapter, number, options.seed)
    ]
    results = Results(options.results or root / "runs/mutation.jsonl", root)
    equivalent = read_equivalent(root / EQUIVALENT)
    try:
        run_all(faults, results, root, options.jobs)
    except TestsFail as error:
        sys.exit(str(error))
    print("\n".join(report(faults, results, equivalent)))
    for path, place, before, _ in sorted(stale(equivalent, root)):
        print(f"{EQUIVALENT}: nothing in {path}, {place} reads so any more: {before}")


if __name__ == "__main__":
    main()
