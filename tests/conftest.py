"""What every test gets: fixed seeds, one thread, the CPU, English messages, and no network beyond this machine."""

import ipaddress
import os
import random
import socket
import sys
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # pytest-xdist already uses every core
os.environ["QIANWEN_LANG"] = "en"  # whatever the locale is

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _is_here(host: object) -> bool:
    name = host.decode() if isinstance(host, bytes) else str(host or "")
    try:
        return ipaddress.ip_address(name.split("%")[0]).is_loopback or name in ("0.0.0.0", "::")
    except ValueError:
        return name in ("", "localhost", socket.gethostname())


def _guarded(call):
    def connect(self: socket.socket, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(address[0]):
            raise RuntimeError(f"a test tried to reach {address}: tests run without a network")
        return call(self, address)

    return connect


def _guarded_lookup(call):
    def lookup(host, *args, **kwargs):
        if not _is_here(host):
            raise RuntimeError(f"a test tried to look up {host}: tests run without a network")
        return call(host, *args, **kwargs)

    return lookup


def pytest_configure(config: pytest.Config) -> None:
    if "not gpu" in config.option.markexpr:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # these say what holds on a CPU, whatever else the machine has
    socket.socket.connect = _guarded(socket.socket.connect)
    socket.socket.connect_ex = _guarded(socket.socket.connect_ex)
    socket.getaddrinfo = _guarded_lookup(socket.getaddrinfo)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture
def shared() -> Path:
    """The optional folder of reference data beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the reference data folder `shared` does not lie beside the checkout")
    return SHARED
