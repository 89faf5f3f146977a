"""`qianwen agent` as a user starts it, with a tiny random model and with a served one."""

import io
import json
import sys
from pathlib import Path

import pytest

from qianwen.agents.journal import Journal
from qianwen.agents.step import Given
from qianwen.cli import main
from qianwen.runtime.errors import ConfigError
from qianwen.sandbox.process import Sandbox


@pytest.fixture
def start(tmp_path, monkeypatch, model_folder):
    """Run the command with an AGENT.json of these fields; returns its exit status."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))

    def run(*arguments, pipe="", **fields):
        agent = {"model": str(model_folder), "instructions": "", "sampling": {"seed": 1}} | fields
        (tmp_path / "agent.json").write_text(json.dumps(agent))
        monkeypatch.setattr(sys, "stdin", io.StringIO(pipe))
        path = str(tmp_path / "agent.json")
        return main(["agent", path, "--max-tokens", "8", "--folder", str(tmp_path / "runs"), *arguments])

    return run


def test_one_question_of_a_script(start, capsys, tmp_path):
    assert start("-p", "Hello") == 0
    first = capsys.readouterr()
    assert first.out.strip() and "[truncated" in first.err
    assert start(pipe="Hello\n") == 0 and capsys.readouterr().out == first.out  # the same seed
    journal = Journal(tmp_path / "runs")
    assert [run.title for run in journal.runs()] == ["Hello", "Hello"]
    journal.close()


def test_json_lines_are_the_steps(start, capsys):
    assert start("-p", "Hello", "--json") == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["kind"] for record in records] == ["run", "answer", "end"]
    assert Path(records[0]["files"]).is_dir()


def test_files_are_copied_and_named(start, tmp_path):
    (tmp_path / "a.csv").write_text("1,2")
    assert start("-p", "Sum?", "--file", str(tmp_path / "a.csv")) == 0
    journal = Journal(tmp_path / "runs")
    run = journal.find_run("last")
    given = [step.message.text for step in journal.steps(run) if isinstance(step, Given)]
    assert given[-1] == "[Upload file a.csv]\nSum?" and (journal.files(run) / "a.csv").read_text() == "1,2"
    journal.close()


def test_a_run_goes_on_with_a_further_question(start, capsys, tmp_path):
    start("-p", "First")
    assert start("-p", "Second", "--resume", "last") == 0
    journal = Journal(tmp_path / "runs")
    (run,) = journal.runs()
    questions = [step.message.text for step in journal.steps(run.id) if isinstance(step, Given)]
    assert questions == ["First", "Second"]
    journal.close()
    assert start("--resume", "nothing", "-p", "x") == 1 and "0 runs match 'nothing'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "fields", "message"),
    [
        ([], {}, "the pipe has no text"),
        (["-p", "x"], {"tools": ["calculater"]}, "did you mean calculator?"),
        (["-p", "x"], {"modell": "x"}, "did you mean model?"),
        (["-p", "x"], {"model": ""}, "names no model"),
        (["-p", "x", "--allow", "nothing"], {}, "which is not a tool of this agent"),
        (["-p", "x", "--url", "nowhere"], {}, "nowhere is not a URL"),
        (["-p", "x", "--file", "missing.csv"], {}, "no file missing.csv"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(start, capsys, arguments, fields, message):
    assert start(*arguments, **fields) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_help_is_quick_and_names_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["agent", "--help"])
    assert stop.value.code == 0 and "--resume" in capsys.readouterr().out


def test_a_model_alone_has_the_tools_that_work_here(monkeypatch, capsys, tmp_path, model_folder):
    def refuse(_: str) -> str:
        raise ConfigError("no sandbox works on this machine")

    monkeypatch.setattr(Sandbox, "open", refuse)
    main(["agent", str(model_folder), "-p", "Hello", "--max-tokens", "4", "--folder", str(tmp_path)])
    errors = capsys.readouterr().err
    assert "without code_interpreter: no sandbox works on this machine" in errors and "Traceback" not in errors
