"""Mutation testing of a package with two functions: one is tested well, the other only called."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools/mutation.py"
FILES = {
    "qianwen/__init__.py": "",
    "qianwen/strong/__init__.py": "",
    "qianwen/strong/add.py": "def add(a, b):\n    return a + b\n",
    "qianwen/weak/__init__.py": "",
    "qianwen/weak/add.py": "def add(a, b):\n    return a + b\n",
    "tests/strong/test_add.py": "from qianwen.strong.add import add\n\n\ndef test():\n    assert add(1, 2) == 3\n",
    "tests/weak/test_add.py": "from qianwen.weak.add import add\n\n\ndef test():\n    add(1, 2)\n",
}
SLOW = """import os
import time

from qianwen.weak.add import add


def test():
    if add(1, 2) != 3:
        with open({marker!r}, "w") as file:
            file.write(str(os.getpid()))
        time.sleep(60)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "checkout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "checkout"


def command(root: Path, *options: str) -> list[str]:
    return [sys.executable, str(TOOL), "--root", str(root), "--results", str(root.parent / "results"), *options]


def mutate(root: Path, *options: str) -> str:
    done = subprocess.run(command(root, *options), capture_output=True, text=True, timeout=60)
    assert not done.returncode, done.stderr + done.stdout
    return done.stdout


def table(output: str) -> dict[str, list[str]]:
    """Faults, caught, missed, those that change nothing and the share, by chapter."""
    rows = [line.split() for line in output[output.rindex("chapter ") :].splitlines()[1:]]
    return {row[0]: row[1:6] for row in rows if len(row) >= 6}


def checkout(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_a_strong_test_catches_the_fault_and_a_weak_one_misses_it(root):
    output = mutate(root, "strong", "weak", "--faults", "2", "--jobs", "2")
    assert table(output) == {
        "strong": ["1", "1", "0", "0", "100.0"],
        "weak": ["1", "0", "1", "0", "0.0"],
        "all": ["2", "1", "1", "0", "50.0"],
    }
    missed = tomllib.loads(output[output.index("[[fault]]") : output.rindex("chapter ")])["fault"]
    assert [(fault["path"], fault["place"], fault["before"]) for fault in missed] == [
        ("qianwen/weak/add.py", "add", "return a + b")
    ]
    assert "# qianwen/weak/add.py:2" in output
    assert checkout(root) == FILES


def test_a_fault_judged_to_change_nothing_does_not_count(root):
    output = mutate(root, "weak", "--faults", "1")
    entry = output[output.index("[[fault]]") : output.rindex("chapter ")]
    (root / "tools").mkdir()
    listed = root / "tools/equivalent_faults.toml"
    listed.write_text(entry, encoding="utf-8")
    assert table(mutate(root, "weak", "--faults", "1"))["weak"][3] == "0", "no reason is given"
    listed.write_text(entry.replace('why = ""', 'why = "the result is never used"'), encoding="utf-8")
    output = mutate(root, "weak", "--faults", "1")
    assert table(output)["weak"] == ["1", "0", "0", "1", "-"] and "[[fault]]" not in output

    (root / "qianwen/weak/add.py").write_text("def add(a, b):\n    return b + a\n")
    assert "reads so any more: return a + b" in mutate(root, "weak", "--faults", "1")


def test_a_second_run_repeats_only_what_a_change_concerns(root):
    options = ("strong", "weak", "--faults", "2")
    mutate(root, *options)
    lines = (root.parent / "results").read_text().splitlines()
    again = mutate(root, *options)
    assert (root.parent / "results").read_text().splitlines() == lines and "[2/2]" not in again
    for chapter in ("strong", "weak"):
        (root / f"tests/{chapter}/test_add.py").write_text(FILES["tests/strong/test_add.py"].replace("strong", chapter))
    assert table(mutate(root, *options))["weak"][:2] == ["1", "1"], "a missed fault meets the mended test"
    records = [json.loads(line) for line in (root.parent / "results").read_text().splitlines()[len(lines) :]]
    assert [record.get("path") for record in records] == [None, "qianwen/weak/add.py"]


def test_tests_that_fail_without_a_fault_stop_the_run(root):
    (root / "tests/weak/test_add.py").write_text("def test():\n    assert False\n")
    done = subprocess.run(command(root, "weak", "--faults", "1"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "fail without any fault: tests/weak/test_add.py::test" in done.stderr


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_the_checkout_is_untouched_by_a_kill_and_the_run_goes_on(root, ending):
    marker, test = root.parent / "marker", root / "tests/weak/test_add.py"
    test.write_text(SLOW.format(marker=str(marker)))
    before = checkout(root)
    (root.parent / "tmp").mkdir()
    options = ("strong", "weak", "--faults", "2")
    process = subprocess.Popen(command(root, *options), env=os.environ | {"TMPDIR": str(root.parent / "tmp")})
    deadline = time.monotonic() + 60
    while not (marker.exists() and marker.read_text()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(ending)
    process.wait(30)
    pid = int(marker.read_text())
    if ending == signal.SIGKILL:
        os.kill(pid, signal.SIGKILL)  # of the tests nobody waits for any more
    else:
        assert not list((root.parent / "tmp").iterdir())
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert checkout(root) == before
    test.write_text(FILES["tests/weak/test_add.py"])
    output = mutate(root, *options)
    assert table(output)["all"][0] == "2" and "[2/2]" in output and "[1/2]" not in output, "the first is not repeated"


def test_a_hang_is_caught_by_the_time_limit(root, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(TOOL.parent)
    runner, mutation = (importlib.import_module(name) for name in ("mutation_runner", "mutation"))
    monkeypatch.setattr(runner, "SLACK", 2.0)
    test = root / "tests/weak/test_add.py"
    test.write_text(SLOW.format(marker=str(tmp_path / "marker")))
    [fault] = mutation.sample(root, "weak", 1, seed=0)
    with runner.runner(root, jobs=1) as copies:
        outcome = copies.test(fault, ["tests/weak/test_add.py"], {"tests/weak/test_add.py": 0.0})
    assert outcome.caught and outcome.by == "time limit of 2 s" and outcome.seconds < 30


def test_a_larger_sample_holds_the_smaller_one_and_the_seed_decides(monkeypatch):
    monkeypatch.syspath_prepend(TOOL.parent)
    mutation = importlib.import_module("mutation")
    root = TOOL.parents[1]
    large = mutation.sample(root, "quantize", 20, seed=0)
    assert large[:5] == mutation.sample(root, "quantize", 5, seed=0) != mutation.sample(root, "quantize", 5, seed=1)
    assert len({(fault.path, fault.line) for fault in large}) == 20


@pytest.mark.parametrize("text", ["a", "it's", "a\nb", "'''\n'''", 'say "x"\n\'', "tab\t"])
def test_a_toml_string_reads_back(monkeypatch, text):
    monkeypatch.syspath_prepend(TOOL.parent)
    mutation = importlib.import_module("mutation")
    assert tomllib.loads(f"a = {mutation.toml_string(text)}")["a"] == text
