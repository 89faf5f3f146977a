"""The name of a model on a hub → a local folder with its weights, config and tokenizer.

    Qwen/Qwen2.5-0.5B-Instruct      Hugging Face, with `huggingface_hub` and its variables: the cache (HF_HOME), a
                                    mirror (HF_ENDPOINT), the token (HF_TOKEN) and offline mode (HF_HUB_OFFLINE)
    modelscope:Qwen/Qwen-7B-Chat    ModelScope, with its HTTP API; MODELSCOPE_DOMAIN sets another server
    …@v1.0                          either hub, at a branch, tag or commit

Only safetensors, JSON and vocabulary files of the top folder are downloaded: no code, no pickles, no second copy of the
weights. Interrupted downloads continue where they stopped. Each ModelScope file is checked against its listed SHA-256.
Uploads and private ModelScope repositories are not supported.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal, NamedTuple

import httpx

from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.files import atomic_file, cache_dir, lock, sha256_file
from qianwen.runtime.log import console, progress
from qianwen.runtime.translation import tr

PATTERNS = ("*.safetensors", "*.json", "*.tiktoken", "merges.txt")
MODELSCOPE = "modelscope:"
REFERENCE = re.compile(r"(?P<prefix>modelscope:)?(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>\w[\w./-]*))?")
CHUNK_BYTES = 1 << 16  # bytes that an interrupted download can lose
ATTEMPTS = 5  # attempts for one file if the connection fails
LISTING = "listing.json"


def is_hub_name(model: str) -> bool:
    """True for `ORG/NAME`, optionally with `modelscope:` before it and `@REVISION` after it."""
    return REFERENCE.fullmatch(model) is not None


def fetch_model(model: str) -> Path:
    """The local folder of a hub name, downloaded if necessary. CheckpointError if that fails."""
    match = REFERENCE.fullmatch(model)
    assert match
    fetch = _from_modelscope if match["prefix"] else _from_hugging_face
    folder = fetch(match["repo"], match["revision"])
    if not any(folder.glob("*.safetensors")):
        message = "{model} has no safetensors weights; use a revision or a copy that has them"
        raise CheckpointError(tr(message, model=model))
    return folder


# ---- Hugging Face -----------------------------------------------------------------------------------------------


def _from_hugging_face(repo: str, revision: str | None) -> Path:
    return hugging_face_folder(repo, revision, patterns=PATTERNS, ignore=("*/*",))


def hugging_face_folder(
    repo: str,
    revision: str | None = None,
    *,
    kind: Literal["model", "dataset"] = "model",
    patterns: Sequence[str],
    ignore: Sequence[str] = (),
) -> Path:
    """The local folder with the files of a repository that match `patterns`, downloaded if necessary."""
    from huggingface_hub import constants, errors, snapshot_download

    page = repo if kind == "model" else f"datasets/{repo}"
    try:
        folder = snapshot_download(
            repo,
            repo_type=kind,
            revision=revision,
            allow_patterns=list(patterns),
            ignore_patterns=list(ignore),
            library_name="qianwen",
        )
        return Path(folder)
    except errors.GatedRepoError as error:
        message = "{repo} needs you to accept its terms: do so at {endpoint}/{page}, then set HF_TOKEN"
        raise CheckpointError(tr(message, repo=repo, endpoint=constants.ENDPOINT, page=page)) from error
    except errors.RepositoryNotFoundError as error:
        message = "{endpoint} has no model {repo}; check the name, and set HF_TOKEN if the model is private"
        if kind == "dataset":
            message = "{endpoint} has no data set {repo}; check the name, and set HF_TOKEN if it is private"
        raise CheckpointError(tr(message, repo=repo, endpoint=constants.ENDPOINT)) from error
    except errors.RevisionNotFoundError as error:
        message = "{repo} has no revision {revision}; check the branch, tag or commit"
        raise CheckpointError(tr(message, repo=repo, revision=revision)) from error
    except errors.LocalEntryNotFoundError as error:
        message = (
            "{repo} is not in the local cache and {endpoint} cannot be reached; go online and unset HF_HUB_OFFLINE, "
            "set HF_ENDPOINT to a mirror, or give a local folder"
        )
        raise CheckpointError(tr(message, repo=repo, endpoint=constants.ENDPOINT)) from error
    except Exception as error:  # versions of the library use different HTTP clients with different errors
        message = "download of {repo} from {endpoint} failed ({error}); run the same command again to continue it"
        raise CheckpointError(tr(message, repo=repo, endpoint=constants.ENDPOINT, error=error)) from error


# ---- ModelScope -------------------------------------------------------------------------------------------------


class RemoteFile(NamedTuple):
    name: str
    size: int
    sha256: str


def _from_modelscope(repo: str, revision: str | None) -> Path:
    folder = cache_dir() / "modelscope" / f"{repo}@{revision or 'master'}".replace("/", "--")
    folder.mkdir(parents=True, exist_ok=True)
    domain = os.environ.get("MODELSCOPE_DOMAIN", "www.modelscope.cn").rstrip("/")
    base = domain if "://" in domain else f"https://{domain}"
    address = f"{base}/api/v1/models/{repo}/repo"
    with lock(folder), httpx.Client(follow_redirects=True, timeout=60) as client:
        try:
            files = _list_files(client, address, repo, revision or "master")
        except httpx.TransportError as error:
            if (folder / LISTING).exists():  # written last, so the folder is complete
                return folder
            message = "{repo} is not in the local cache and {endpoint} cannot be reached ({error}); check the network"
            raise CheckpointError(tr(message, repo=repo, endpoint=base, error=error)) from error
        known = json.loads((folder / LISTING).read_text()) if (folder / LISTING).exists() else {}
        for file in files:
            target = folder / file.name
            # a file that is not in the last listing may be of an unfinished download, so its own hash is compared
            if not target.exists() or known.get(file.name, sha256_file(target)) != file.sha256:
                query = {"Revision": revision or "master", "FilePath": file.name}
                _download(client, f"{address}?{httpx.QueryParams(query)}", target, file)
        with atomic_file(folder / LISTING, "w") as listing:
            json.dump({file.name: file.sha256 for file in files}, listing)
    return folder


def _list_files(client: httpx.Client, address: str, repo: str, revision: str) -> list[RemoteFile]:
    answer = client.get(f"{address}/files", params={"Revision": revision, "Recursive": "true"})
    try:
        listed: list[dict[str, Any]] = answer.raise_for_status().json()["Data"]["Files"]
        blobs = [file for file in listed if file["Type"] == "blob"]
        files = [RemoteFile(file["Path"], int(file["Size"]), file["Sha256"]) for file in blobs]
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as error:
        message = "ModelScope has no public model {repo} with revision {revision} (status {status}); check the name"
        raise CheckpointError(tr(message, repo=repo, revision=revision, status=answer.status_code)) from error
    return [
        file
        for file in files
        if Path(file.name).name == file.name and any(fnmatch(file.name, pattern) for pattern in PATTERNS)
    ]


def _download(client: httpx.Client, url: str, target: Path, file: RemoteFile) -> None:
    """Download to `NAME.part`, from where it stopped before, and rename the file when its hash is right."""
    part = target.with_name(target.name + ".part")
    for attempt in range(ATTEMPTS):
        try:
            if not part.exists() or part.stat().st_size < file.size:
                _continue(client, url, part, file)
            break
        except httpx.HTTPError as error:
            if attempt == ATTEMPTS - 1:
                message = "download of {name} failed ({error}); run the same command again to continue it"
                raise CheckpointError(tr(message, name=file.name, error=error)) from error
    if sha256_file(part) != file.sha256:
        part.unlink()
        message = "{name} has another SHA-256 than ModelScope lists; run the same command to download it again"
        raise CheckpointError(tr(message, name=file.name))
    os.replace(part, target)


def _continue(client: httpx.Client, url: str, part: Path, file: RemoteFile) -> None:
    start = part.stat().st_size if part.exists() else 0
    with client.stream("GET", url, headers={"Range": f"bytes={start}-"} if start else {}) as answer:
        answer.raise_for_status()
        resumed = answer.status_code == httpx.codes.PARTIAL_CONTENT
        chunks: Iterator[bytes] = answer.iter_bytes(CHUNK_BYTES)
        if console.is_terminal:
            left = -(-(file.size - (start if resumed else 0)) // CHUNK_BYTES)
            chunks = progress(chunks, left, tr("{name}, chunks of 64 KiB", name=file.name))
        with part.open("ab" if resumed else "wb") as out:
            for chunk in chunks:
                out.write(chunk)
