"""How anything reaches the disk: whole, or not at all.

    file     write to a temporary name → fsync → rename over the target → fsync the folder
    folder   the same for all its files, with a `manifest.json` of sizes and SHA-256 that is written last

A reader therefore sees the old artefact or the new one, whatever kills the writer, and `verify_folder` finds any byte
that changed since. Symbolic links are followed: the target is replaced, the link stays.
Here too: JSON lines, the lock that keeps two processes off one folder, and the run folder.
Not here: two machines writing the same name at the same time.
"""

import dataclasses
import gzip
import hashlib
import io
import json
import os
import shutil
import sys
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psutil
import zstandard

from qianwen.runtime.errors import CheckpointError, ConfigError, DataError
from qianwen.runtime.language import tr

MANIFEST = "manifest.json"


# ---- one artefact -----------------------------------------------------------------------------------------------


@contextmanager
def atomic_file(path: str | Path, mode: str = "wb", encoding: str | None = None) -> Iterator[IO[Any]]:
    """Open a file that appears under `path`, complete and on the disk, only when the block ends without an error."""
    target = Path(os.path.realpath(path))
    temporary = _temporary(target)
    try:
        with open(temporary, mode, encoding=encoding or (None if "b" in mode else "utf-8")) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _fsync_folder(target.parent)
    except OSError as error:
        error.filename = error.filename or str(target)  # write(2) does not know its file; the user should
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `path`, whole and with a manifest, when the block ends without an error."""
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    _recover(target)
    temporary = _temporary(target)
    temporary.mkdir()
    try:
        yield temporary
        files = sorted(file for file in temporary.rglob("*") if file.is_file())
        entries = {file.relative_to(temporary).as_posix(): _entry(file) for file in files}
        with atomic_file(temporary / MANIFEST, "w") as manifest:
            json.dump({"files": entries}, manifest, indent=1, ensure_ascii=False)
        for folder in [temporary, *(entry for entry in temporary.rglob("*") if entry.is_dir())]:
            _fsync_folder(folder)
        _swap_in(temporary, target)
    except OSError as error:
        error.filename = error.filename or str(target)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
                "{path}: {name} has {found} bytes, written were {size}", path=path, name=name, found=found, size=size
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


def _temporary(target: Path) -> Path:
    """A fresh name beside `target`; leftovers of processes that died are removed first."""
    prefix = f".{target.name[:100]}."
    with suppress(OSError):  # tidying must never stop a write
        for stale in target.parent.iterdir():
            pid = stale.name.removeprefix(prefix).split("-")[0]
            if (
                stale.name.startswith(prefix)
                and stale.suffix == ".tmp"
                and pid.isdigit()
                and not psutil.pid_exists(int(pid))
            ):
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
    return target.with_name(f"{prefix}{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")


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


# ---- JSON lines -------------------------------------------------------------------------------------------------


def read_jsonl(path: str | Path) -> Iterator[dict[str, Any]]:
    """The objects of a `.jsonl`, `.jsonl.gz` or `.jsonl.zst` file; blank lines are skipped. Raises DataError."""
    number = 0
    try:
        with _open_bytes(Path(path)) as file:
            for number, line in enumerate(file, start=1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if not text:
                    continue
                row = json.loads(text)
                if not isinstance(row, dict):
                    raise ValueError(tr("not a JSON object: {start}", start=text[:60]))
                yield row
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        raise DataError(tr("{path}, line {number}: {error}", path=path, number=number, error=error)) from error
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise DataError(tr("{path}, after line {number}: {error}", path=path, number=number, error=error)) from error


def write_jsonl(path: str | Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write one object a line, compressed as the suffix says, and return how many. Same rows, same bytes."""
    count = 0
    with atomic_file(path) as raw, _compressed(Path(path), raw) as file:
        for row in rows:
            try:
                line = json.dumps(row, ensure_ascii=False).encode("utf-8")
            except UnicodeEncodeError:  # a lone surrogate: JSON can spell it, UTF-8 cannot
                line = json.dumps(row).encode("ascii")
            file.write(line + b"\n")
            count += 1
    return count


def _open_bytes(path: Path) -> io.BufferedIOBase:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    if path.suffix == ".zst":
        reader = zstandard.ZstdDecompressor().stream_reader(path.open("rb"), read_across_frames=True, closefd=True)
        return io.BufferedReader(reader)
    return path.open("rb")


@contextmanager
def _compressed(path: Path, raw: IO[bytes]) -> Iterator[Any]:
    if path.suffix == ".gz":
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as file:
            yield file
    elif path.suffix == ".zst":
        with zstandard.ZstdCompressor().stream_writer(raw, closefd=False) as file:
            yield file
    else:
        yield raw


# ---- folders with a meaning -------------------------------------------------------------------------------------


def cache_dir() -> Path:
    """Where downloads are kept: $QIANWEN_CACHE, or the platform's cache folder."""
    if chosen := os.environ.get("QIANWEN_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "qianwen"


def runs_dir() -> Path:
    """Where runs are kept: $QIANWEN_RUNS, or `runs` in the current folder."""
    return Path(os.environ.get("QIANWEN_RUNS") or "runs")


@contextmanager
def lock(path: str | Path) -> Iterator[None]:
    """Keep other processes off the folder `path`. Raises ConfigError naming the holder; death frees the lock."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+", encoding="ascii") as file:
        if not _try_lock(file.fileno()):
            file.seek(0)
            holder = file.read().strip() or "?"
            message = tr(
                "{path} is in use by process {pid}: wait for it, stop it, or choose another name", path=path, pid=holder
            )
            raise ConfigError(message)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # far from the pid, which others must be able to read
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class RunFolder:
    """One run on disk: `run.json` says what it is and how it stands; checkpoints, metrics and reports lie beside it."""

    def __init__(self, path: Path, record: dict[str, Any]) -> None:
        self.path = path
        self.record = record  # {stage, state, created, config}

    @classmethod
    def create(cls, name: str | Path, stage: str, config: Any) -> "RunFolder":
        """Start a run, or go on with the one that is there. `config` is a dataclass or a dict.

        A name without a folder lies in `runs_dir()`. Raises ConfigError when the run there was made differently.
        """
        path = _run_path(name)
        plain = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else dict(config)
        plain = json.loads(json.dumps(plain, default=str))
        if (path / "run.json").exists():
            run = cls.open(path)
            wanted, found = _flat({"stage": stage, **plain}), _flat({"stage": run.record["stage"], **run.config})
            changed = [key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)]
            if changed:
                key = min(changed)
                message = tr(
                    "{path} was made with {key} = {old}, not {new}: choose another name or `qianwen runs delete` it",
                    path=path,
                    key=key,
                    old=found.get(key),
                    new=wanted.get(key),
                )
                raise ConfigError(message)
        else:
            path.mkdir(parents=True, exist_ok=True)
            run = cls(path, {"stage": stage, "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "config": plain})
        run.set_state("running")
        return run

    @classmethod
    def open(cls, name: str | Path) -> "RunFolder":
        """The run that is there. Raises ConfigError when there is none, CheckpointError when its record is damaged."""
        path = _run_path(name)
        file = path / "run.json"
        if not file.exists():
            raise ConfigError(tr("no run at {path}: `qianwen runs` lists those there are", path=path))
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            record["stage"], record["state"], record["created"], record["config"]
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(tr("{path} is damaged: {error}", path=file, error=error)) from error
        return cls(path, record)

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def config(self) -> dict[str, Any]:
        return self.record["config"]

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    def set_state(self, state: str, **facts: Any) -> None:
        """Record `running`, `finished`, `interrupted` or `failed`, and any other fact worth listing."""
        self.record |= {"state": state, **facts}
        with atomic_file(self.path / "run.json", "w") as file:
            json.dump(self.record, file, indent=1, ensure_ascii=False)

    def finish(self) -> None:
        self.set_state("finished")


def _run_path(name: str | Path) -> Path:
    return Path(name) if isinstance(name, Path) or Path(name).name != name else runs_dir() / name


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"loop": {"steps": 20}}` → `{"loop.steps": 20}`."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
