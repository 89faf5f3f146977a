"""Programs run inside an isolation, and what comes back says how they ended."""

import pytest

from qianwen.runtime.errors import ConfigError
from qianwen.sandbox.process import Limits, Sandbox


@pytest.fixture(scope="module")
def sandbox():
    return Sandbox.open()


def test_a_program_gets_its_input_and_its_files(sandbox):
    program = "import sys; print(sys.stdin.read() + open('data/a.txt').read())"
    outcome = sandbox.run_python(program, stdin=b"6", files={"data/a.txt": "七".encode()})
    assert (outcome.status, outcome.exit_code, outcome.stdout, outcome.stderr) == ("ok", 0, "6七\n", "")


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("raise SystemExit(3)", "error"),
        ("def", "error"),
        ("while True: pass", "timeout"),
        ("import time; time.sleep(60)", "timeout"),
        ("x = bytearray(1 << 40)", "memory"),
        ("print('x' * 100000)", "output"),
        ("import os; os.abort()", "killed"),
    ],
)
def test_the_status_says_how_a_program_ended(sandbox, program, status):
    limits = Limits(cpu_seconds=0.5, wall_seconds=0.8, output_bytes=1000)
    outcome = sandbox.run_python(program, limits=limits)
    assert outcome.status == status
    assert len(outcome.stdout) <= 1000


def test_an_unknown_back_end_is_an_error():
    with pytest.raises(ConfigError, match="unknown sandbox 'docker'; choose one of auto, bubblewrap"):
        Sandbox.open("docker")
