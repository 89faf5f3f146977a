"""Print a CycloneDX bill of materials: every package this environment holds because qianwen needs it (`make sbom`)."""

import datetime
import importlib.metadata
import json
import re
import sys
import uuid
from pathlib import Path

from packaging.requirements import Requirement

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_closure(root: str) -> dict[str, importlib.metadata.Distribution]:
    """`root` and all it needs, extras included as far as they are installed, by canonical name."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [root]
    while waiting:
        name = canonical(waiting.pop())
        if name in found or not (held := list(importlib.metadata.distributions(name=name))):
            continue
        found[name] = held[0]
        waiting += [Requirement(line).name for line in held[0].requires or [] if _applies(line, name == root)]
    return found


def _applies(line: str, is_root: bool) -> bool:
    marker = Requirement(line).marker
    return marker is None or is_root or marker.evaluate({"extra": ""})


def locked_hashes() -> dict[tuple[str, str], list[str]]:
    """(name, version) → SHA-256 of its files, from the lock."""
    blocks = re.split(r"\n(?!\s)", LOCK.read_text(encoding="utf-8"))
    pins = ((match, block) for block in blocks if (match := re.match(r"([\w.-]+)==([\w.]+)", block)))
    return {(canonical(m[1]), m[2]): re.findall(r"sha256:(\w{64})", block) for m, block in pins}


def component(distribution: importlib.metadata.Distribution, hashes: dict[tuple[str, str], list[str]]) -> dict:
    name, version = canonical(distribution.name), distribution.version
    licence = distribution.metadata.json.get("license_expression")
    return {
        "type": "library",
        "bom-ref": f"pkg:pypi/{name}@{version}",
        "purl": f"pkg:pypi/{name}@{version}",
        "name": name,
        "version": version,
        **({"licenses": [{"expression": licence}]} if licence else {}),
        "properties": [{"name": "file:sha256", "value": h} for h in hashes.get((name, version.split("+")[0]), [])],
    }


def main() -> None:
    closure = installed_closure("qianwen")
    ours = closure.pop("qianwen")
    hashes = locked_hashes()
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "component": {"type": "application", "name": "qianwen", "version": ours.version, "bom-ref": "qianwen"},
        },
        "components": [component(closure[name], hashes) for name in sorted(closure)],
    }
    json.dump(document, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
