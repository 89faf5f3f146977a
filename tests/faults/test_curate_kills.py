"""Kill a curation anywhere, start it again: the shards are those of a run that was never killed (R15, R5)."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from .nursery import attempts

pytest.importorskip("fasttext", reason="fastText comes with the extra `data`")
if sys.platform == "win32":
    pytest.skip("forks and SIGKILL are POSIX", allow_module_level=True)

WORDS = (
    "river mill farm boat bridge market road storm village forest crossed passed reached found watched kept "
    "the and to that with have from beyond under near which were about there"
)
NUM_KILLS = int(os.environ.get("QIANWEN_KILLS", "6"))


def write_inputs(folder: Path) -> None:
    """Essays in JSON lines and on web pages, copies and edits of some of them, a benchmark text in two, and rubbish."""
    from qianwen.runtime.files import write_jsonl

    pick = random.Random(0)
    words = WORDS.split()

    def essay() -> str:
        lines = []
        for _ in range(12):
            chosen = [pick.choice(words) + pick.choice(["", "", "s"]) for _ in range(11)]
            rare = "".join(pick.choices("bcdfglmnprstaeiou", k=6))
            lines.append(" ".join(["the", *chosen, rare, "of", "and", "it"]).capitalize() + ".")
        return "\n".join(lines)

    essays = [essay() for _ in range(120)]
    edited = [text.replace(" ", " really ", 1) for text in essays[:20]]
    test = " ".join("".join(pick.choices("abcdefgo", k=5)) for _ in range(20))
    folder.mkdir(parents=True)
    write_jsonl(folder / "test.jsonl", [{"question": test}])
    rows = [*essays, *edited, *(text.upper() for text in essays[20:30]), f"{essays[0]}\n{test}.", "short", "x\x00y"]
    (folder / "in").mkdir()
    for part in range(3):
        some = [{"text": text, "source": f"essays:{number}"} for number, text in enumerate(rows) if number % 3 == part]
        write_jsonl(folder / "in" / f"{part}.jsonl", some)
    for number in range(10):
        page = f"<html><body><nav>Home</nav><main><p>{essay()}</p></main></body></html>"
        (folder / "in" / f"{number}.html").write_text(page)


def prepare() -> None:
    from qianwen.data.curate import curation  # noqa: F401  what every attempt needs
    from qianwen.data.documents import language_id
    from qianwen.data.tokens import pack  # noqa: F401

    language_id.languages(["the model is read here, once"])


def attempt(given: str, to: str) -> None:
    """Curate and tokenise what `given` holds."""
    from qianwen.data.curate import input_parts
    from qianwen.data.curate.corpus import folder_hash, stage
    from qianwen.data.curate.curation import curate
    from qianwen.data.curate.filter_part import CurateConfig
    from qianwen.data.tokens.pack import tokenized_documents, write_tokens

    inputs, output = Path(given), Path(to)
    input_parts.SMALLEST = 40_000
    curate([str(inputs / "in")], output, CurateConfig(), benchmarks=[str(inputs / "test.jsonl")], workers=1)
    documents = output / "documents"

    def tokenise(folder: Path) -> None:
        found = tokenized_documents(documents, lambda texts: [[ord(c) for c in text] for text in texts])
        write_tokens(found, folder / "tokens", 0)

    stage(output / "packed", {"documents": folder_hash(documents)}, tokenise)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs") / "given"
    write_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def run(inputs: Path) -> Iterator[Callable[..., int]]:
    with attempts(__name__, inputs) as run:
        yield run


def outcome(output: Path) -> dict[str, str]:
    """The hash of every file of the result, and of the token files made of it."""
    files = [
        file
        for folder in ("documents", "dropped", "packed")
        for file in sorted((output / folder).rglob("*"))
        if file.is_file()
    ]
    files += [output / name for name in ("counts.json", "contamination.json")]
    return {str(file.relative_to(output)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def reached(output: Path) -> str:
    """Which stage a killed run was in."""
    steps = ["work/screened/00000", "work/screened/00002", "work/duplicates", "work/benchmarks", "work/finished/00000"]
    steps += ["work/finished/00002", "documents", "packed"]
    return next((step for step in reversed(steps) if (output / step).exists()), "nothing")


def leftovers(output: Path) -> list[Path]:
    return [path for path in output.rglob("*") if path.name.endswith((".tmp", ".replaced"))]


@pytest.fixture(scope="module")
def straight(run: Callable[..., int], tmp_path_factory: pytest.TempPathFactory) -> tuple[float, dict[str, str]]:
    """The seconds and the outcome of a run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("straight")
    began = time.perf_counter()
    assert run(folder / "out") == 0, (folder / "out.txt").read_text()
    seconds = time.perf_counter() - began
    found = outcome(folder / "out")
    counts = json.loads((folder / "out" / "counts.json").read_text())
    assert counts["dropped"]["duplicates"] and counts["dropped"]["benchmarks"], "every stage has work to do"
    assert sum(name.startswith("documents/part-") for name in found) >= 3, "there are several parts"
    return seconds, found


def kill_and_go_on(run: Callable[..., int], straight: tuple, folder: Path, kills: int) -> Counter[str]:
    """`kills` kills, one to three for each curation, every one of which must end as the undisturbed one."""
    seconds, expected = straight
    moments = random.Random(kills)
    stages: Counter[str] = Counter()
    done = 0
    while done < kills:
        output = folder / str(done)
        for _ in range(min(moments.randint(1, 3), kills - done)):
            if run(output, signal_after=moments.uniform(0, seconds)) == -signal.SIGKILL:
                stages[reached(output)] += 1
            done += 1
        assert run(output) == 0, (folder / f"{output.name}.txt").read_text()
        assert outcome(output) == expected
        assert not leftovers(output)
    return stages


@pytest.mark.slow
def test_killed_curations_end_as_if_never_killed(run, straight, tmp_path):
    assert sum(kill_and_go_on(run, straight, tmp_path, NUM_KILLS).values())


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_a_hundred_kills_over_all_stages(run, straight, tmp_path):
    stages = kill_and_go_on(run, straight, tmp_path, 100)
    print(dict(stages))
    assert len(stages) >= 6, stages


@pytest.mark.slow
def test_a_disk_that_fills_costs_a_run_but_no_document(run, straight, tmp_path):
    """Writes fail beyond a random byte of any file, then there is room again."""
    sizes = random.Random(1)
    statuses = []
    for number in range(4):
        output = tmp_path / str(number)
        statuses.append(run(output, file_limit=sizes.randrange(500, 30_000)))
        assert run(output) == 0, (tmp_path / f"{number}.txt").read_text()
        assert outcome(output) == straight[1] and not leftovers(output)
    assert 1 in statuses and set(statuses) <= {0, 1}
    said = "".join(file.read_text() for file in tmp_path.glob("*.txt"))
    assert "File too large: " in said and "Traceback" not in said


@pytest.mark.slow
def test_a_shard_that_changed_is_never_read(run, straight, tmp_path):
    """A byte of each kind of shard in turn: the stage that made it runs again, and the result is the same."""
    output = tmp_path / "out"
    assert run(output) == 0
    for name in (
        "screened/00001/documents.parquet",
        "duplicates/representatives.npy",
        "finished/00000/dropped.jsonl.zst",
    ):
        file = output / "work" / name
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        assert run(output) == 0, (tmp_path / "out.txt").read_text()
        assert outcome(output) == straight[1], file


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_killed_commands_leave_no_worker_behind(inputs, tmp_path):
    """The command itself, over two worker processes: its input has parts enough for both."""
    words, moments, num_workers = [f"word{number:x}" for number in range(5000)], random.Random(0), 0
    with (tmp_path / "large.jsonl").open("w") as file:
        for number in range(12_000):
            file.write(json.dumps({"text": " ".join(moments.choices(words, k=200)), "source": str(number)}) + "\n")
    given = [str(inputs / "in"), str(tmp_path / "large.jsonl")]
    command = [sys.executable, "-m", "qianwen", "data", "curate", *given, "--workers", "2"]
    command += ["--benchmarks", str(inputs / "test.jsonl"), "--output"]
    began = time.perf_counter()
    subprocess.run([*command, str(tmp_path / "straight")], check=True, capture_output=True)
    seconds = time.perf_counter() - began
    expected = outcome(tmp_path / "straight")
    for number in range(8):
        output = tmp_path / str(number)
        with subprocess.Popen([*command, str(output)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
            time.sleep(moments.uniform(0.3, seconds))
            workers = psutil.Process(child.pid).children(recursive=True)
            num_workers = max(num_workers, len(workers))
            child.kill()
        deadline = time.monotonic() + 5
        while any(map(_is_alive, workers)):
            assert time.monotonic() < deadline, "a worker outlives its run"
            time.sleep(0.02)
        subprocess.run([*command, str(output)], check=True, capture_output=True)
        assert outcome(output) == expected and not leftovers(output)
    assert num_workers >= 2, "some were killed while workers worked"


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
