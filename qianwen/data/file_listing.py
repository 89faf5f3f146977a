"""Local and remote files: on this machine, in a bucket (`s3://`, `gs://`, `az://`), on `hf://` or on a web server.

    list_files     the files at a path        local_copy     a file as a local copy

Remote paths are read with Daft; credentials come from the environment.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qianwen.runtime.errors import DataError, QianwenError
from qianwen.runtime.translation import tr

UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
REMOTE = ("s3://", "hf://", "gs://", "az://", "http://", "https://")


@dataclass(frozen=True)
class ListedFile:
    """A file that was listed. `name` is its path relative to the listed folder."""

    path: str
    name: str
    size: int


def is_remote(path: str) -> bool:
    """Whether a path is not in the local file system."""
    return path.startswith(REMOTE)


def list_files(path: str) -> list[ListedFile]:
    """The files at `path` (a file or a folder), sorted, without hidden ones. Raises DataError if there are none."""
    if is_remote(path):
        files = _list_remote(path)
    else:
        root = Path(path)
        paths = sorted(file for file in root.rglob("*") if file.is_file()) if root.is_dir() else [root]
        if not root.exists():
            raise DataError(tr("{path}: no such file or folder", path=root))
        names = [printable(file.relative_to(root).as_posix() if root.is_dir() else file.name) for file in paths]
        files = [ListedFile(str(file), name, file.stat().st_size) for file, name in zip(paths, names, strict=True)]
    return [file for file in files if not any(part.startswith(".") for part in file.name.split("/"))]


def printable(name: str) -> str:
    """A name as text that any file can hold: control characters and bytes that are not UTF-8 are written as escapes."""
    return UNPRINTABLE.sub(_escaped, name)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\u{code:04x}" if code < 0xDC80 and code > 0xFF or code > 0xDCFF else f"\\x{code & 0xFF:02x}"


@contextmanager
def local_copy(path: str, folder: Path) -> Iterator[Path]:
    """A temporary local copy in `folder` of a remote file, deleted after the block; a local file is not copied."""
    if not is_remote(path):
        yield Path(path)
        return
    import daft

    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / f"{os.getpid()}-{path.rpartition('/')[2]}"
    try:
        with daft.open_file(path, "rb", io_config=_io_config()) as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        yield copy
    except Exception as error:
        if isinstance(error, (QianwenError, MemoryError)) or not type(error).__module__.startswith("daft"):
            raise
        raise DataError(tr("{path} could not be read: {error}", path=path, error=error)) from error
    finally:
        copy.unlink(missing_ok=True)


def _list_remote(path: str) -> list[ListedFile]:
    import daft

    is_file = "." in path.rstrip("/").rpartition("/")[2]
    pattern = path if is_file or "*" in path else path.rstrip("/") + "/**"
    try:
        table = daft.from_glob_path(pattern, io_config=_io_config()).to_pydict()
    except Exception as error:  # Daft raises many kinds, all of them about this path
        raise DataError(tr("{path} could not be listed: {error}", path=path, error=error)) from error
    base = path.partition("*")[0].rstrip("/")
    files = []
    for file, size in sorted(zip(table["path"], table["size"], strict=True)):
        name = file.removeprefix(base).strip("/") or file.rpartition("/")[2]
        files.append(ListedFile(file, name, size or 0))
    if not files:
        raise DataError(tr("{path}: no such file or folder", path=path))
    return files


def _io_config() -> Any:
    """Credentials come from the environment; AWS_ENDPOINT_URL sets a custom endpoint."""
    from daft.io import IOConfig, S3Config

    environment = os.environ
    s3 = S3Config(
        endpoint_url=environment.get("AWS_ENDPOINT_URL"),
        region_name=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1",
        anonymous=not {"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ROLE_ARN"} & environment.keys() or None,
        num_tries=4,
        connect_timeout_ms=5000,
    )
    return IOConfig(s3=s3)
