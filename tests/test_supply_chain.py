"""Pinned versions, locked hashes, and the bill of materials (S14)."""

import ast
import importlib.metadata
import json
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKED_EXTRAS = ("dev", "fast", "gguf", "parity")


def pins(name: str) -> dict[str, list[str]]:
    """Canonical name → the blocks that pin it, one per platform or Python version that differs."""
    found: dict[str, list[str]] = {}
    for block in re.split(r"\n(?![\s])", (ROOT / name).read_text()):
        if match := re.match(r"([\w.-]+)==", block):
            found.setdefault(canonicalize_name(match[1]), []).append(block)
    return found


def wanted(*extras: str) -> list[Requirement]:
    lines = PROJECT["dependencies"] + [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    return [Requirement(line) for line in lines]


def installed_closure(requirements: list[Requirement], pinned: dict[str, list[str]]) -> set[str]:
    """What is installed here because of them, all levels; what is not at its pinned version is not looked into."""
    seen: set[str] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        held = next(iter(importlib.metadata.distributions(name=name)), None)
        if name in seen or held is None:
            continue
        seen.add(name)
        if held.version.split("+")[0] not in map(version, pinned.get(name, [])):
            continue
        for line in held.requires or []:
            below = Requirement(line)
            if below.marker is None or any(below.marker.evaluate({"extra": e}) for e in ("", *requirement.extras)):
                waiting.append(below)
    return seen


def version(block: str) -> str:
    return re.match(r"[\w.-]+==([\w.+!]+)", block)[1]


def imported() -> set[str]:
    """Top-level names that files of the package import, but for the standard library and ourselves."""
    found: set[str] = set()
    for path in (ROOT / "qianwen").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"qianwen"}


def test_everything_imported_is_declared():
    declared = {canonicalize_name(requirement.name) for requirement in wanted(*PROJECT["optional-dependencies"])}
    sellers = importlib.metadata.packages_distributions()
    unknown = {name: sellers.get(name, [name]) for name in imported()}
    undeclared = {name for name, sold_by in unknown.items() if not declared & set(map(canonicalize_name, sold_by))}
    assert not undeclared


def test_constraints_pin_every_dependency_within_its_range():
    pinned = pins("constraints.txt")
    requirements = wanted(*PROJECT["optional-dependencies"])
    assert installed_closure(requirements, pinned) <= pinned.keys()
    for requirement in requirements:
        blocks = pinned[canonicalize_name(requirement.name)]
        assert all(requirement.specifier.contains(version(block)) for block in blocks), f"`make lock`: {requirement}"


def test_the_lock_has_hashes_for_all_that_setup_installs_and_agrees_with_the_constraints():
    pinned = pins("constraints.txt")
    locked = pins("requirements.lock") | pins("requirements-cuda.lock")
    assert installed_closure(wanted(*LOCKED_EXTRAS), locked) <= locked.keys()
    for name, blocks in locked.items():
        assert all("--hash=sha256:" in block for block in blocks), name
        assert {version(block) for block in blocks} <= {version(block) for block in pinned[name]}


def test_torch_may_come_as_either_build_and_cuda_stays_apart():
    assert not {name for name in pins("requirements.lock") if name.startswith(("nvidia-", "cuda-"))}
    assert {name.split("-")[0] for name in pins("requirements-cuda.lock")} == {"nvidia", "cuda"}


def test_no_pin_names_a_path_or_a_host():
    for name in ("constraints.txt", "requirements.lock", "requirements-cuda.lock"):
        assert not re.search(r"://|^-|(?<!\w)/\w| @ ", (ROOT / name).read_text(), re.M), name


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80), ("example.org", 443)])
def test_tests_cannot_leave_this_machine(address):
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as outward, pytest.raises(RuntimeError, match="without a network"):
        outward.connect(address)
    with pytest.raises(RuntimeError, match="without a network"):
        socket.create_connection(address, timeout=1)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=1):
        pass


def test_the_bill_of_materials_lists_what_is_installed():
    done = subprocess.run([sys.executable, ROOT / "tools" / "sbom.py"], capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    components = {part["name"]: part for part in document["components"]}
    assert {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]} <= components.keys()
    assert components["numpy"]["version"] == importlib.metadata.version("numpy")
    assert all(part["purl"] == f"pkg:pypi/{part['name']}@{part['version']}" for part in components.values())
