"""What lies on the disk and where: JSON lines, the cache, the run folder, and the lock that keeps two processes apart.

Everything written goes through the atomic writer of `atomic.py`, whose functions are offered here too.
"""

import bz2
import dataclasses
import gzip
import io
import json
import lzma
import os
import shutil
import sys
import time
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import zstandard

from qianwen.runtime.atomic import atomic_file as atomic_file
from qianwen.runtime.atomic import atomic_folder as atomic_folder
from qianwen.runtime.atomic import sha256_file as sha256_file
from qianwen.runtime.atomic import verify_folder as verify_folder
from qianwen.runtime.errors import CheckpointError, ConfigError, DataError
from qianwen.runtime.json_bytes import as_utf8
from qianwen.runtime.translation import tr

# ---- JSON lines -------------------------------------------------------------------------------------------------


def read_jsonl(path: str | Path) -> Iterator[dict[str, Any]]:
    """The objects of a `.jsonl`, `.jsonl.gz` or `.jsonl.zst` file; blank lines are skipped. Raises DataError."""
    for row in read_rows(path):
        if isinstance(row, DataError):
            raise row
        yield row


def read_rows(path: str | Path) -> Iterator[dict[str, Any] | DataError]:
    """As `read_jsonl`, but a line that is not a JSON object is returned as its DataError, and reading goes on.

    A file that cannot be read or unpacked any further still raises DataError.
    """
    number = 0
    try:
        with as_utf8(open_bytes(Path(path))) as file:
            for number, line in enumerate(file, start=1):
                if text := line.strip():
                    yield _row(path, number, text)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise DataError(tr("{path}, after line {number}: {error}", path=path, number=number, error=error)) from error


def _row(path: str | Path, number: int, line: bytes) -> dict[str, Any] | DataError:
    try:
        row = json.loads(line.decode("utf-8"))
        if isinstance(row, dict):
            return row
        reason: object = tr("not a JSON object: {start}", start=json_text(row)[:60])
    except UnicodeDecodeError as error:
        reason = tr("not UTF-8 (byte {byte} of the line)", byte=error.start + 1)
    except json.JSONDecodeError as error:
        reason = tr(
            "not valid JSON at character {column} of the line ({reason})", column=error.pos + 1, reason=error.msg
        )
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits, or thousands of brackets
        reason = tr("not valid JSON ({reason})", reason=error)
    return DataError(tr("{path}, line {number}: {error}", path=path, number=number, error=reason))


def json_text(value: object, indent: int | None = None) -> str:
    """`value` as JSON that UTF-8 can hold. Characters stay readable, unless there is half a surrogate pair."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate: JSON can spell it, UTF-8 cannot
        return json.dumps(value, indent=indent)
    return text


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Write one object a line, compressed as the suffix says, and return how many. Same rows, same bytes."""
    count = 0
    with atomic_file(path) as raw, _compressed(Path(path), raw) as file:
        for row in rows:
            file.write(json_text(row).encode("utf-8") + b"\n")
            count += 1
    return count


def repair_jsonl(path: str | Path) -> int:
    """How many rows a plain file of JSON lines has, 0 where there is none; half a row that a kill left is cut off."""
    data = Path(path).read_bytes() if Path(path).exists() else b""
    if (end := data.rfind(b"\n") + 1) < len(data):
        os.truncate(path, end)
    return data.count(b"\n")


def open_bytes(path: Path) -> io.BufferedIOBase:
    """The plain bytes of a file that may be packed (gzip, bzip2, xz, zstd), unpacked little by little.

    How it is packed, its first bytes say: a download may be unpacked already and still be called `.gz`.
    """
    with path.open("rb") as file:
        start = file.read(10)
    if start.startswith(b"\x1f\x8b"):
        return gzip.open(path, "rb")
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return io.BufferedReader(_ZstdFile(path), 1 << 16)
    if start.startswith(b"\xfd7zXZ\x00"):
        return lzma.open(path, "rb")
    if start.startswith(b"BZh") and start[4:] == b"1AY&SY":
        return bz2.open(path, "rb")
    return path.open("rb")


@contextmanager
def _compressed(path: Path, raw: IO[bytes]) -> Iterator[Any]:
    if path.suffix == ".gz":
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as file:
            yield file
    elif path.suffix == ".zst":
        with zstandard.ZstdCompressor(write_checksum=True).stream_writer(raw, closefd=False) as file:
            yield file
    else:
        yield raw


class _ZstdFile(io.RawIOBase):
    """The bytes of a zstd file. The library's own reader takes a file cut inside a frame for a whole one."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._packed = b""
        self._plain = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._plain:
            self._packed = self._packed or self._file.read(2048)  # little, because a hostile file unpacks 40,000-fold
            if not self._packed and self._frame:
                raise EOFError(tr("the file ends inside a zstd frame"))
            if not self._packed:
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._plain = memoryview(self._frame.decompress(self._packed))
            self._packed = self._frame.unused_data if self._frame.eof else b""
            self._frame = None if self._frame.eof else self._frame
        count = min(len(buffer), len(self._plain))
        buffer[:count] = self._plain[:count]
        self._plain = self._plain[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


LOCK = ".lock"
PROBE_SECONDS = 0.02  # `is_locked` holds a free lock for much less, so who wants it tries again after this
# What a run may have before its first step
UNSTARTED = {"run.json", LOCK, "corpus", "tokens", "before_after.json", "metrics.jsonl", "checkpoints"}

# ---- folders with a meaning -------------------------------------------------------------------------------------


def cache_dir() -> Path:
    """Where downloads are kept: $QIANWEN_CACHE, or the platform's cache folder. Losing it costs only time."""
    mac, xdg = Path("Library", "Caches"), ("XDG_CACHE_HOME", ".cache")
    return _platform_folder("QIANWEN_CACHE", mac, xdg)


def data_dir() -> Path:
    """Where what must not be lost is kept outside any run (keys, conversations): $QIANWEN_DATA, or the platform's."""
    mac, xdg = Path("Library", "Application Support"), ("XDG_DATA_HOME", ".local/share")
    return _platform_folder("QIANWEN_DATA", mac, xdg)


def _platform_folder(variable: str, mac: Path, xdg: tuple[str, str]) -> Path:
    if chosen := os.environ.get(variable):
        return Path(chosen)
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        root = Path.home() / mac
    else:
        root = Path(os.environ.get(xdg[0]) or Path.home() / xdg[1])
    return root / "qianwen"


def runs_dir() -> Path:
    """Where runs are kept: $QIANWEN_RUNS, or `runs` in the current folder."""
    return Path(os.environ.get("QIANWEN_RUNS") or "runs")


@contextmanager
def lock(path: str | Path) -> Iterator[None]:
    """Keep other processes off the folder `path`. Raises ConfigError naming the holder; death frees the lock."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a+", encoding="ascii") as file:
        if not any(_try_lock(file.fileno()) or time.sleep(PROBE_SECONDS) for _ in range(5)):
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


def is_locked(path: str | Path) -> bool:
    """Whether a running process holds the lock of the folder `path`.

    The lock itself is tried. A process number proves nothing: another process may have it by now, and a zombie still
    has its own. The operating system releases the lock of a process that died.
    """
    try:
        with open(Path(path) / LOCK, "rb") as file:
            return not _try_lock(file.fileno())
    except FileNotFoundError:
        return False


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
        self.record = record  # {stage, state, created, config, pid}

    @classmethod
    def create(cls, name: str | Path, stage: str, config: Any) -> "RunFolder":
        """Start a run, or go on with the one that is there. `config` is a dataclass or a dict.

        A name without a folder lies in `runs_dir()`. Raises ConfigError when the run there was made differently, unless
        it ended before there was anything to keep.
        """
        path = _run_path(name)
        plain = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else dict(config)
        plain = json.loads(json.dumps(plain, default=str))
        run = cls(path, {"stage": stage, "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "config": plain})
        if (path / "run.json").exists():
            saved = cls.open(path)
            if difference := saved._difference(run):
                if not saved.is_empty():
                    message = (
                        "{path} was made with {key} = {old}, not {new}: choose another name or `qianwen runs delete` it"
                    )
                    raise ConfigError(tr(message, path=path, **difference))
                saved._clear()
            else:
                run = saved
                run.record.pop("error", None)
        path.mkdir(parents=True, exist_ok=True)
        run.set_state("running", pid=os.getpid())
        return run

    @classmethod
    def open(cls, name: str | Path) -> "RunFolder":
        """The run that is there. Raises ConfigError when there is none, CheckpointError when its record is damaged."""
        path = _run_path(name)
        file = path / "run.json"
        if not file.exists():
            raise ConfigError(tr("there is no run at {path}; `qianwen runs` lists all runs", path=path))
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            for key, kind in (("stage", str), ("state", str), ("created", str), ("config", dict)):
                if not isinstance(record[key], kind):
                    raise TypeError
        except KeyError as error:
            reason = tr("`{key}` is missing", key=error.args[0])
            raise CheckpointError(tr("{path} is damaged: {error}", path=file, error=reason)) from error
        except TypeError as error:
            reason = tr("a value has the wrong type")
            raise CheckpointError(tr("{path} is damaged: {error}", path=file, error=reason)) from error
        except (ValueError, RecursionError) as error:
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
            file.write(json_text(self.record, indent=1))

    def is_empty(self, inputs: Collection[str] = ()) -> bool:
        """Whether the run ended before its first step, so that there is nothing to keep.

        `inputs` are further files in its folder that a new start brings again.
        """
        if self.record["state"] == "finished" or (self.metrics_path.exists() and self.metrics_path.stat().st_size):
            return False
        if any((self.path / "checkpoints").glob("*")):
            return False
        names = {path.name for path in self.path.iterdir() if not path.name.startswith(".")}
        return names <= UNSTARTED | set(inputs)

    def _clear(self) -> None:
        """Remove what an empty run left, such as the tokens of another vocabulary."""
        for name in UNSTARTED - {LOCK}:
            path = self.path / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def _difference(self, other: "RunFolder") -> dict[str, Any]:
        """The first field that differs, as `key`, `old` and `new`; empty if none does."""
        old, new = (flat_config({"stage": run.record["stage"], **run.config}) for run in (self, other))
        changed = [key for key in old.keys() | new.keys() if old.get(key) != new.get(key)]
        return {"key": min(changed), "old": old.get(min(changed)), "new": new.get(min(changed))} if changed else {}


def _run_path(name: str | Path) -> Path:
    return Path(name) if isinstance(name, Path) or Path(name).name != name else runs_dir() / name


def flat_config(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"loop": {"steps": 20}}` → `{"loop.steps": 20}`."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flat_config(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
