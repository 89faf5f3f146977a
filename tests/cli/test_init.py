"""The command table: fast help, suggestions, one clear line for what a user can cause."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from qianwen import cli
from qianwen.runtime.errors import ConfigError


@pytest.fixture
def failing(monkeypatch):
    """Add a command `fail` that raises what it is given."""

    def install(error: BaseException) -> None:
        def fail(argv: list[str]) -> int:
            raise error

        monkeypatch.setitem(sys.modules, "failing", SimpleNamespace(fail=fail))
        monkeypatch.setitem(cli.COMMANDS, "fail", ("failing:fail", "fails"))

    return install


def test_help_lists_every_command(capsys):
    assert cli.main(["--help"]) == cli.main([]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in cli.COMMANDS)


def test_every_command_can_be_imported():
    for name, (target, about) in cli.COMMANDS.items():
        module, function = target.split(":")
        assert callable(getattr(__import__(module, fromlist=[function]), function)), name
        assert about and not about.endswith(".")


def test_help_answers_at_once_and_imports_nothing_heavy():
    code = (
        "import sys; from qianwen.cli import main; main(['--help']);"
        "print(sorted({'torch', 'numpy', 'rich', 'tyro', 'matplotlib'} & set(sys.modules)))"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert time.perf_counter() - start < 5  # 0.1 s alone; a busy machine must not fail the suite


def test_an_unknown_command_gets_a_suggestion(capsys):
    assert cli.main(["docotr"]) == 2
    assert capsys.readouterr().err == "unknown command docotr: did you mean doctor?\n"
    assert cli.main(["xyzzy"]) == 2
    assert "lists the commands" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ConfigError("no run at x: make one"), 1, "no run at x: make one\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (PermissionError(13, "Permission denied", "/a/b"), 1, "/a/b: Permission denied\n"),
        (
            OSError(28, "No space left", "/a"),
            1,
            "/a: No space left: free some disk space, then run the same command again\n",
        ),
        (OSError("the disk said no"), 1, "the disk said no\n"),
        (ModuleNotFoundError("no", name="gradio.blocks"), 1, "this needs gradio.blocks: pip install 'qianwen[ui]'\n"),
        (ModuleNotFoundError("no", name="lm_eval"), 1, "this needs lm_eval: pip install 'qianwen[lm-eval]'\n"),
    ],
)
def test_what_a_user_can_cause_is_one_line(failing, capsys, monkeypatch, error, status, line):
    failing(error)
    assert cli.main(["fail"]) == status
    assert capsys.readouterr().err == line
    monkeypatch.setenv("QIANWEN_DEBUG", "1")
    assert cli.main(["fail"]) == status
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ZeroDivisionError(), ModuleNotFoundError("no", name="qianwen.nowhere")])
def test_our_own_mistakes_are_one_line_and_a_traceback_for_those_who_ask(failing, error, capsys, monkeypatch):
    failing(error)
    assert cli.main(["fail"]) == 70
    printed = capsys.readouterr().err
    assert f"internal error ({type(error).__name__} in " in printed and "Traceback" not in printed
    monkeypatch.setenv("QIANWEN_DEBUG", "1")
    assert cli.main(["fail"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_a_closed_pipe_is_not_an_error():
    code = "import sys; from qianwen.cli import main; sys.exit(main(['--help']))"
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    writer.stdout.close()
    assert writer.stderr.read() == b""
    writer.stderr.close()
    assert writer.wait() == 141
