"""Landlock by itself: what is not listed cannot be opened."""

import subprocess
import sys

import pytest

from qianwen.sandbox import landlock

PROGRAM = """
import os, sys
from qianwen.sandbox import landlock, privileges
readable, writable, *places = sys.argv[1:]
privileges.become(None)
landlock.restrict([readable, "/does/not/exist"], [writable])
for place in places:
    for mode in "rw":
        try:
            open(place, mode).close()
            print(mode, end="")
        except PermissionError:
            print("-", end="")
    print(end=" ")
"""


def test_only_what_is_listed_can_be_opened(tmp_path):
    try:
        landlock.version()
    except OSError as error:
        pytest.skip(f"no Landlock here: {error}")
    places = []
    for name in ("readable", "writable", "hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
        places.append(str(tmp_path / name / "file"))
    command = [sys.executable, "-c", PROGRAM, *(str(tmp_path / name) for name in ("readable", "writable")), *places]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.split() == ["r-", "rw", "--"], done.stderr


@pytest.mark.parametrize(("version", "is_enough"), [(1, False), (5, False), (6, True), (7, True)])
def test_a_kernel_that_lets_signals_out_is_refused(monkeypatch, version, is_enough):
    monkeypatch.setattr(landlock, "version", lambda: version)
    if is_enough:
        landlock.need_scopes()
    else:
        with pytest.raises(OSError, match=f"Landlock has version {version} here; 6 .* is needed"):
            landlock.need_scopes()
