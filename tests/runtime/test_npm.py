"""npm packages: checked before they are kept, never run, and a clear error without npm."""

import hashlib
import os
from pathlib import Path

import pytest

from qianwen.runtime.errors import DataError
from qianwen.runtime.npm import cached_archive, npm_archive

CONTENT = b"an archive"
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name that packs CONTENT, and notes how it was called."""
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >> "{tmp_path}/calls"\n'
        'while [ "$1" != --pack-destination ]; do shift; done\nprintf "an archive" > "$2/x-1.0.0.tgz"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("QIANWEN_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.skipif(os.name == "nt", reason="the program that plays npm is a shell script")
def test_it_is_fetched_once_and_its_scripts_never_run(npm: Path) -> None:
    for _ in range(2):
        assert npm_archive("@a/x@1.0.0", SHA).read_bytes() == CONTENT
    (call,) = (npm / "calls").read_text().splitlines()
    assert "--ignore-scripts" in call and call.endswith("@a/x@1.0.0")
    assert [path.name for path in (npm / "cache" / "npm").iterdir()] == ["a-x@1.0.0.tgz"]


@pytest.mark.skipif(os.name == "nt", reason="the program that plays npm is a shell script")
def test_other_bytes_are_not_kept(npm: Path) -> None:
    with pytest.raises(DataError, match=f"x-1.0.0.tgz of x@1.0.0 has sha256 {SHA}"):
        npm_archive("x@1.0.0", "0" * 64)
    assert not cached_archive("x@1.0.0").exists()


def test_without_npm_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("QIANWEN_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="npm is not installed"):
        npm_archive("x@1.0.0", SHA)
