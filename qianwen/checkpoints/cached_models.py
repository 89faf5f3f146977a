"""The models on this disk, by the names that commands accept as MODEL.

    the hub's cache          ORG/NAME, or the path of a GGUF file in it
    ModelScope's cache       modelscope:ORG/NAME
    the weights folder       GGUF files and folders beside the cache of this program (`~/.cache/qianwen-weights`)
    runs                     the names of finished runs, models and adapters

Other folders are not searched: a path can always be given. Nothing is fetched.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CacheNotFound, scan_cache_dir

from qianwen.checkpoints.adapter_folder import is_adapter
from qianwen.checkpoints.gguf.parts import part_paths
from qianwen.checkpoints.hf_weights import CONFIG
from qianwen.checkpoints.hub import MODELSCOPE
from qianwen.checkpoints.model_facts import ModelFacts, model_facts
from qianwen.runtime.errors import QianwenError
from qianwen.runtime.files import cache_dir
from qianwen.runtime.runs import all_runs, label


@dataclass(frozen=True)
class CachedModel:
    """A model with its name, or with the reason why it cannot be used."""

    name: str
    path: Path
    place: str  # hub, modelscope, weights or runs
    facts: ModelFacts | None = None
    error: str = ""


def cached_models() -> list[CachedModel]:
    """All models, those of one place together and by name."""
    found = [*_hub(), *_modelscope(), *_weights_folder(), *_runs()]
    return [_described(name, path, place) for name, path, place in found]


def _described(name: str, path: Path, place: str) -> CachedModel:
    try:
        return CachedModel(name, path, place, model_facts(path))
    except (QianwenError, OSError) as error:
        return CachedModel(name, path, place, error=str(error))


def _hub() -> Iterator[tuple[str, Path, str]]:
    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return
    for repository in sorted(repositories, key=lambda each: each.repo_id):
        revisions = sorted(repository.revisions, key=lambda each: ("main" in each.refs, each.last_modified))
        if repository.repo_type == "model" and revisions:
            snapshot = revisions[-1].snapshot_path
            for name, path in _in_folder(snapshot):
                yield (repository.repo_id if path == snapshot else name), path, "hub"


def _modelscope() -> Iterator[tuple[str, Path, str]]:
    for folder in sorted((cache_dir() / "modelscope").glob("*--*@*")):
        repository, _, revision = folder.name.partition("@")
        name = MODELSCOPE + repository.replace("--", "/", 1) + ("" if revision == "master" else f"@{revision}")
        if (folder / CONFIG).exists():
            yield name, folder, "modelscope"


def _weights_folder() -> Iterator[tuple[str, Path, str]]:
    folder = cache_dir().with_name(f"{cache_dir().name}-weights")
    if folder.is_dir():
        for place in (folder, *sorted(each for each in folder.iterdir() if each.is_dir())):
            yield from ((name, path, "weights") for name, path in _in_folder(place))


def _runs() -> Iterator[tuple[str, Path, str]]:
    for run in all_runs():
        folder = run.path / "model"
        if (folder / CONFIG).exists() or is_adapter(folder):
            yield label(run), folder, "runs"


def _in_folder(folder: Path) -> Iterator[tuple[str, Path]]:
    """The folder itself if it is a model or an adapter, and the GGUF files in it; of several parts the first."""
    if (folder / CONFIG).exists() or is_adapter(folder):
        yield str(folder), folder
    for file in sorted({part_paths(file)[0] for file in folder.glob("*.gguf")}):
        yield str(file), file
