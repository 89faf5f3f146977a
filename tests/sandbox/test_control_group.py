"""A control group ends what exceeds its memory, and is gone afterwards."""

import os
import signal
import subprocess
import sys

import pytest

from qianwen.sandbox import control_group


@pytest.fixture
def group(monkeypatch):
    monkeypatch.setattr(control_group, "OVERHEAD", 0)
    made = control_group.make(-1, 64 << 20)
    if made is None:
        pytest.skip("no control group can be made here (it mostly needs root)")
    yield made
    made.remove()


def test_a_process_that_needs_too_much_is_ended(group):
    small = subprocess.run(group.entering([sys.executable, "-S", "-c", "print(1)"]), capture_output=True)
    assert small.stdout == b"1\n" and not group.has_ended_a_process()
    large = subprocess.run(group.entering([sys.executable, "-S", "-c", "x = b'x' * (256 << 20)"]))
    assert large.returncode == -signal.SIGKILL and group.has_ended_a_process()
    group.remove()
    assert not os.path.exists(group.folder)


def test_a_group_that_cannot_be_entered_runs_nothing(group):
    group.remove()
    done = subprocess.run(group.entering(["/bin/echo", "ran"]), capture_output=True)
    assert done.returncode and not done.stdout


def test_where_none_can_be_made_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(control_group, "ROOT", str(tmp_path))
    assert control_group.make(1, 1 << 20) is None


def test_groups_of_killed_processes_are_removed(group):
    above = os.path.dirname(group.folder)
    ended = subprocess.Popen(["true"])
    ended.wait()
    abandoned = os.path.join(above, f"qianwen-{ended.pid}-1")
    os.mkdir(abandoned)
    control_group._remove_abandoned.__wrapped__(above)
    assert not os.path.exists(abandoned) and os.path.exists(group.folder)
