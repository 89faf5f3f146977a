"""Which back-end isolates programs on this machine. There is none without isolation.

    bubblewrap    the program `bwrap` makes namespaces and a tree of files; a seccomp filter and limits are added
    namespaces    the same from our own code, with Landlock as a second border
    landlock      Landlock, a seccomp filter and limits alone, where user namespaces are forbidden

The last is weaker: programs write into a folder on the disk, and their processes are searched for to be ended. So it is
used only if the user names it.
"""

import functools
import platform
from typing import Literal, get_args

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr
from qianwen.sandbox.running import Backend
from qianwen.sandbox.self_check import check

AUTOMATIC: tuple[Backend, ...] = ("bubblewrap", "namespaces")


def choose(name: Literal["auto"] | Backend) -> Backend:
    """The first back-end that passes its self-check here, or the named one; ConfigError with every reason."""
    if name != "auto" and name not in get_args(Backend):
        known = ", ".join(("auto", *get_args(Backend)))
        raise ConfigError(tr("unknown sandbox {name!r}; choose one of {known}", name=name, known=known))
    if platform.system() != "Linux":
        raise ConfigError(tr("programs cannot be isolated on {system}: Linux is needed", system=platform.system()))
    reasons = {}
    for backend in AUTOMATIC if name == "auto" else (name,):
        reason = refusal(backend)
        if not reason:
            return backend
        reasons[backend] = reason
    tried = "; ".join(f"{backend}: {reason}" for backend, reason in reasons.items())
    raise ConfigError(
        tr(
            "no sandbox works on this machine, so no program is run ({tried}). Install bubblewrap (apt install "
            "bubblewrap); if user namespaces are forbidden, allow them (sysctl kernel.unprivileged_userns_clone=1, "
            "on Ubuntu sysctl kernel.apparmor_restrict_unprivileged_userns=0); or pass --sandbox landlock, "
            "which is weaker",
            tried=tried,
        )
    )


@functools.cache
def refusal(backend: Backend) -> str:
    """Why a back-end cannot be used here; empty if it can. It is checked once for each process."""
    return check(backend)
