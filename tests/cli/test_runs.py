"""`qianwen runs` and `qianwen report` as typed."""

import pytest

from qianwen.cli import main
from qianwen.runtime.files import RunFolder
from qianwen.runtime.log import MetricsLog


@pytest.fixture(autouse=True)
def two_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    for name, lr in (("a", 0.1), ("b", 0.2)):
        run = RunFolder.create(name, "pretrain", {"lr": lr})
        log = MetricsLog(run.metrics_path)
        log.log(step=0, loss=5.0)
        log.log(step=1, loss=5.0 - lr)
        run.set_state("finished")
    capsys.readouterr()
    return tmp_path


@pytest.mark.parametrize("argv", [["runs"], ["runs", "list"]])
def test_list(capsys, argv):
    assert main(argv) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {line[0]: line[-4:-2] for line in lines[1:]} == {"a": ["1", "4.9"], "b": ["1", "4.8"]}


def test_no_runs_yet(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path / "none"))
    assert main(["runs"]) == 0
    assert "`qianwen demo` makes the first" in capsys.readouterr().out


def test_follow(capsys):
    assert main(["runs", "follow", "a"]) == 0
    assert capsys.readouterr().out == "step 0  loss 5\nstep 1  loss 4.9\nloss −0.1 since step 0\n"


def test_compare(capsys, two_runs):
    assert main(["runs", "compare", "a", "b"]) == 0
    assert "0.1" in capsys.readouterr().out
    assert (two_runs / "compare.html").exists()
    assert main(["runs", "compare", "a"]) == 1
    assert "at least two" in capsys.readouterr().err


def test_delete_asks_and_says_how_much(capsys, two_runs, monkeypatch):
    assert main(["runs", "delete", "a"]) == 1
    captured = capsys.readouterr()
    assert "a  " in captured.out and " B" in captured.out and "--yes" in captured.err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _prompt="": "n")
    assert main(["runs", "delete", "a"]) == 1 and (two_runs / "a").exists()
    monkeypatch.setattr("builtins.input", lambda _prompt="": "y")
    assert main(["runs", "delete", "a"]) == 0 and not (two_runs / "a").exists()
    assert main(["runs", "delete", "b", "--yes"]) == 0 and not (two_runs / "b").exists()
    assert main(["runs", "delete", "b", "--yes"]) == 1
    assert "no run at" in capsys.readouterr().err


def test_report_is_written_unless_a_newer_one_is_there(capsys, two_runs):
    assert main(["report", "a"]) == 0
    assert capsys.readouterr().out.strip() == str(two_runs / "a" / "report.html")
    (two_runs / "a" / "report.html").write_text("richer, by the stage itself")
    assert main(["report", "a"]) == 0
    assert (two_runs / "a" / "report.html").read_text() == "richer, by the stage itself"


def test_an_unknown_action_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["runs", "lsit"])
    assert stopped.value.code == 2
