"""A program is started, interrupted and ended, and its back-end says what happened."""

import os
import signal
import sys
import time

import pytest

from qianwen.sandbox import running
from qianwen.sandbox.limits import Limits
from qianwen.sandbox.running import RunningProgram, SandboxFailed

LIMITS = Limits(cpu_seconds=5, wall_seconds=20)


@pytest.fixture
def start(sandbox):
    started = []

    def begin(program: str, **settings) -> RunningProgram:
        argv = [sys.executable, "-I", "-S", "-B", "-c", program]
        started.append(RunningProgram(sandbox.backend, argv, {}, LIMITS, **settings))
        return started[-1]

    yield begin
    for each in started:
        each.end()


def test_an_interrupt_reaches_the_program_and_its_children(start):
    code = "import os, signal, time\npid = os.fork()\n"
    code += "try:\n    os.write(1, b'x'); time.sleep(20)\nexcept KeyboardInterrupt:\n    if pid == 0: os._exit(7)\n"
    code += "raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))"
    program = start(code)
    assert program.process.stdout and program.process.stdout.read(2) == b"xx"
    program.interrupt()
    assert program.process.wait(5) == 0
    assert program.end().exit_code == 7 and program.end().ended_by is None


def test_an_interrupt_after_the_end_does_nothing(start):
    program = start("raise SystemExit(3)")
    assert program.process.wait(5) == 0
    program.interrupt()
    assert program.end().exit_code == 3


def test_the_end_is_that_of_a_program_that_runs(start):
    program = start("import time; time.sleep(20)")
    ending = program.end()
    assert (ending.exit_code, ending.ended_by) == (-signal.SIGKILL, "stopped") and program.wall_seconds < 5


def test_a_descriptor_is_given(start):
    read, write = os.pipe()
    start(f"import os; os.write({write}, b'given')", keep=[write])
    os.close(write)
    assert os.read(read, 10) == b"given"
    os.close(read)


def test_the_error_output_that_nobody_read_is_returned(start):
    program = start("import sys; sys.stderr.write('why')")
    program.process.wait(5)
    assert program.end().errors == "why"


def test_a_program_that_does_not_exist_is_a_failure_with_its_reason(sandbox):
    program = RunningProgram(sandbox.backend, ["/bin/nothing"], {}, LIMITS)
    time.sleep(0.2)
    with pytest.raises(SandboxFailed, match="/bin/nothing"):
        program.end()


def test_no_two_runs_have_the_same_user(monkeypatch):
    monkeypatch.setattr(running, "NUM_USERS", 3)
    with running.ExitStack() as stack:
        assert len({running._new_user(stack) for _ in range(3)}) == 3
    assert not running._users
