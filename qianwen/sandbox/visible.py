"""The files that a program sees: the system's programs and libraries, and the Python that runs us. Nothing of a user.

Files of settings are listed one by one, because `/etc` also has passwords and keys.
"""

import functools
import os
import sys

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
SETTINGS = (
    *("alternatives", "fonts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "mime.types"),
    *("ssl/certs", "ssl/openssl.cnf", "timezone"),
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
CHAPTER = os.path.dirname(os.path.realpath(__file__))  # the launcher's code
PACKAGE = os.path.dirname(CHAPTER)


@functools.cache
def readable() -> dict[str, str]:
    """Places in the sandbox, and the files or folders of this machine that appear there."""
    places = [*SYSTEM, *(f"/etc/{name}" for name in SETTINGS), *_python(), CHAPTER]
    shown = {}
    for place in places:
        real = os.path.realpath(place)
        if os.path.exists(real) and not _inside(place, shown):
            # A link is made again if its target is visible; otherwise the target appears in its place.
            shown[place] = place if os.path.islink(place) and _inside(real, {**shown, "/usr": "/usr"}) else real
        if os.path.exists(real) and not _inside(real, shown):
            shown[real] = real
    return shown


def _python() -> list[str]:
    """The folders of the running Python: a virtual environment and the installation below it."""
    executable = os.path.realpath(sys.executable)
    return [sys.prefix, sys.base_prefix, sys.base_exec_prefix, os.path.dirname(os.path.dirname(executable))]


def _inside(place: str, folders: dict[str, str]) -> bool:
    return any(place == folder or place.startswith(f"{folder}/") for folder in folders)


def environment(folder: str) -> dict[str, str]:
    """The whole environment of a program. Numerical libraries start one thread, since threads count as processes."""
    return {
        "PATH": f"{os.path.dirname(sys.executable)}:/usr/local/bin:/usr/bin:/bin",
        "HOME": folder,
        "TMPDIR": folder,
        "USER": "sandbox",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "MPLBACKEND": "Agg",
        "MALLOC_ARENA_MAX": "2",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
