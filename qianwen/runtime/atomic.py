"""The atomic writer: an artefact reaches the disk whole, or not at all.

    file     write to a temporary name → fsync → rename over the target → fsync the folder
    folder   the same for all its files, with a `manifest.json` of sizes and SHA-256 that is written last

A reader therefore sees the old artefact or the new one, whatever kills the writer, and `verify_folder` finds any byte
that changed since. Symbolic links are followed: the target is replaced, the link stays.
Not here: two machines writing the same name at the same time.
"""

import errno
import functools
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psutil

from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.translation import tr

MANIFEST = "manifest.json"


@contextmanager
def atomic_file(path: str | Path, mode: str = "wb", encoding: str | None = None) -> Iterator[IO[Any]]:
    """Open a file that appears under `path`, complete and on the disk, only when the block ends without an error."""
    target = Path(os.path.realpath(path))
    if not target.name:  # the root of a disk
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    is_text = "b" not in mode
    encoding = encoding or ("utf-8" if is_text else None)
    try:
        with open(temporary, mode, encoding=encoding, newline="\n" if is_text else None) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _fsync_folder(target.parent)
    except OSError as error:
        _name(error, temporary, target)
        raise
    finally:
        with suppress(OSError):  # it is gone, or the disk is read-only
            temporary.unlink()


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `path`, whole and with a manifest, when the block ends without an error."""
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    _recover(target)
    temporary = _temporary(target)
    try:
        temporary.mkdir()
        yield temporary
        files = sorted(file for file in temporary.rglob("*") if file.is_file())
        entries = {file.relative_to(temporary).as_posix(): _entry(file) for file in files}
        with atomic_file(temporary / MANIFEST, "w") as manifest:
            json.dump({"files": entries}, manifest, indent=1, ensure_ascii=False)
        for folder in [temporary, *(entry for entry in temporary.rglob("*") if entry.is_dir())]:
            _fsync_folder(folder)
        _swap_in(temporary, target)
    except OSError as error:
        _name(error, temporary, target)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _recover(target)


def verify_folder(path: str | Path) -> dict[str, Any]:
    """The manifest of `path` after hashing every file it lists. Raises CheckpointError naming the first bad file."""
    folder = Path(os.path.realpath(path))
    _recover(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        expected = {str(name): (entry["size"], entry["sha256"]) for name, entry in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = tr("{path}: no readable {manifest} ({error})", path=path, manifest=MANIFEST, error=error)
        raise CheckpointError(message) from error
    for name, (size, digest) in expected.items():
        file = folder / name
        if not file.is_file():
            raise CheckpointError(tr("{path}: {name} is missing", path=path, name=name))
        if (found := file.stat().st_size) != size:
            message = tr(
                "{path}: {name} has {found} bytes, but {size} were written",
                path=path,
                name=name,
                found=found,
                size=size,
            )
            raise CheckpointError(message)
        if sha256_file(file) != digest:
            raise CheckpointError(tr("{path}: {name} changed after it was written", path=path, name=name))
    return manifest


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _entry(file: Path) -> dict[str, int | str]:
    with open(file, "rb+") as handle:
        os.fsync(handle.fileno())
    return {"size": file.stat().st_size, "sha256": sha256_file(file)}


def _name(error: OSError, temporary: Path, target: Path) -> None:
    """Give the error the name the user knows: a failed write names no file, the rest our temporary one."""
    if error.filename is None or str(error.filename).startswith(str(temporary)):
        error.filename = str(target)


def _temporary(target: Path) -> Path:
    """A fresh name beside `target`. Names have 255 bytes, and a character up to four."""
    _tidy(target.parent)
    return target.with_name(f".{target.name[:40]}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")


@functools.cache
def _tidy(folder: Path) -> None:
    """Remove what processes that died left in `folder`; once is enough, for the dead leave nothing more."""
    with suppress(OSError):  # tidying must never stop a write
        for path in folder.iterdir():
            owner = re.fullmatch(r"\..*\.(\d+)-[0-9a-f]{8}\.tmp", path.name, re.S)
            if owner and not psutil.pid_exists(int(owner[1])):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.replaced")


def _swap_in(temporary: Path, target: Path) -> None:
    """Rename over `target`. A folder cannot be renamed over a full one, so the old one steps aside for a moment."""
    if target.exists():
        os.rename(target, _aside(target))
    os.rename(temporary, target)
    _fsync_folder(target.parent)
    shutil.rmtree(_aside(target), ignore_errors=True)


def _recover(target: Path) -> None:
    """Undo a replacement that was killed between its two renames, or finish one killed after them."""
    aside = _aside(target)
    if aside.exists():
        shutil.rmtree(aside, ignore_errors=True) if target.exists() else os.rename(aside, target)


def _fsync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder, and its renames are durable
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
