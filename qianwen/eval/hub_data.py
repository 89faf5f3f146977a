"""Benchmarks from the Hugging Face hub, by their published names, for runs without `--data-dir`.

The files are those of `HUB`; they are kept in the hub's cache, so a second run downloads nothing. The variables of the
hub (`HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`) apply.
"""

from pathlib import Path
from typing import NamedTuple

from qianwen.checkpoints.hub import hugging_face_folder
from qianwen.runtime.errors import CheckpointError, ConfigError, DataError
from qianwen.runtime.translation import tr


class HubData(NamedTuple):
    """The name of a data set on the hub, and patterns of the files that are needed."""

    name: str
    patterns: tuple[str, ...]


HUB = {
    "mmlu": HubData("cais/mmlu", ("all/test-*.parquet", "all/dev-*.parquet")),
    "ceval": HubData("ceval/ceval-exam", ("*/dev-*.parquet", "*/val-*.parquet", "*/test-*.parquet", "ceval-exam.zip")),
    "cmmlu": HubData("haonan-li/cmmlu", ("cmmlu_v1_0_1.zip",)),
    "leval": HubData("L4NLP/LEval", ("LEval/Exam/*.jsonl",)),
}  # by the name of the task, up to its first hyphen: `mmlu-chat` has the data of `mmlu`


def fetch_data(task: str) -> Path:
    """The local folder with the data of a task, downloaded if necessary. DataError if that fails."""
    data = HUB.get(task.partition("-")[0])
    if data is None:
        message = "{name} needs --data-dir: its questions are not on the hub under a published name"
        raise ConfigError(tr(message, name=task))
    try:
        return hugging_face_folder(data.name, kind="dataset", patterns=data.patterns)
    except CheckpointError as error:
        message = "no data for {name} ({error}); or give a folder with its files: --data-dir"
        raise DataError(tr(message, name=task, error=error)) from error
