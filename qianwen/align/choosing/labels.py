"""The marks of a person on the rows of a file, in a file beside it: FILE.labels.jsonl.

Every action appends one line, which is on the disk before the page answers; the last line of a row counts. A line
names its row by a hash of the row, so marks stay with their rows if others are added or removed. The data file itself
is never changed; `export` writes new ones:

    FILE.sft.jsonl            dialogues marked `keep`, with the edited texts and the ability
    FILE.preferences.jsonl    ranked pairs as `prompt`, `chosen`, `rejected`; and edited answers over the originals
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qianwen.align.choosing.checks import findings
from qianwen.align.choosing.parts import normal_row, with_texts
from qianwen.align.dialogues import file_records
from qianwen.align.turns import RecordError, read_functions, read_turn
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import json_text, read_jsonl, repair_jsonl, write_jsonl
from qianwen.runtime.translation import tr

MARKS = ("keep", "drop", "flag")
PREFERENCES = ("chosen", "rejected", "equal")  # the better side, by its name in the file


@dataclass
class Label:
    """What a person said about a row; `texts` are the edited texts by the number of the part."""

    mark: str = ""
    ability: str = ""
    note: str = ""
    preference: str = ""
    texts: dict[int, str] = field(default_factory=dict)


@dataclass
class LabelledRow:
    """A row in one form (`parts.py`), and its label."""

    key: str
    original: dict[str, Any]
    label: Label
    checks: list[str]

    @property
    def is_pair(self) -> bool:
        return "chosen" in self.original

    @property
    def is_swapped(self) -> bool:
        """Whether a page shows the rejected answer first: in half of the rows, so that the order tells nothing."""
        return self.is_pair and int(self.key[0], 16) % 2 == 1

    @property
    def edited(self) -> dict[str, Any]:
        return with_texts(self.original, self.label.texts)


class LabelFile:
    """The rows of a file with their labels."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError(tr("{path}: no such file", path=path))
        self.labels_path = self.path.with_name(self.path.name + ".labels.jsonl")
        saved = self._saved()
        self.rows: list[LabelledRow] = []
        self.num_unusable = 0
        times: Counter[str] = Counter()
        for record in file_records(self.path):
            try:
                row = normal_row(record)
            except RecordError:
                self.num_unusable += 1
                continue
            digest = hashlib.sha256(json_text(record).encode("utf-8", "replace")).hexdigest()[:20]
            times[digest] += 1
            key = f"{digest}-{times[digest]}"  # equal rows have marks of their own
            label = saved.get(key) or Label(ability=row.get("ability", ""))
            self.rows.append(LabelledRow(key, row, label, []))
            self.rows[-1].checks = checks_of(self.rows[-1].edited)
        if not self.rows:
            raise DataError(tr("{path}: no row is a dialogue or a pair of answers", path=path))

    def _saved(self) -> dict[str, Label]:
        if not repair_jsonl(self.labels_path):
            return {}
        labels = {}
        for line in read_jsonl(self.labels_path):
            key = line.pop("key")
            texts = {int(number): text for number, text in line.pop("texts").items()}
            labels[key] = Label(**line, texts=texts)
        return labels

    def save(self, row: LabelledRow, label: Label) -> None:
        """Set the label of a row; when this returns, it is on the disk."""
        with self.labels_path.open("a", encoding="utf-8") as file:
            file.write(json_text({"key": row.key, **asdict(label)}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        row.label = label
        row.checks = checks_of(row.edited)

    def export(self) -> dict[Path, int]:
        """Write both files; the number of rows of each."""
        paths = [self.path.with_name(f"{self.path.name}.{name}.jsonl") for name in ("sft", "preferences")]
        kept = (each for each in self.rows if each.label.mark == "keep" and not each.is_pair)
        sft = ({**each.edited, **({"ability": each.label.ability} if each.label.ability else {})} for each in kept)
        return {
            paths[0]: write_jsonl(paths[0], sft),
            paths[1]: write_jsonl(paths[1], (pair for each in self.rows for pair in _preferences(each))),
        }


def checks_of(row: dict[str, Any]) -> list[str]:
    """The automatic checks that apply to a row; of a pair, those of either answer."""
    functions = read_functions(row.get("tools"), "tools")
    sides = [row["messages"]] if "messages" in row else [row["prompt"] + row[side] for side in ("chosen", "rejected")]
    results = [findings([read_turn(turn, "messages").message for turn in side], functions) for side in sides]
    return list(dict.fromkeys(name for result in results for name in result))


def _preferences(row: LabelledRow) -> Iterator[dict[str, Any]]:
    """The preference row of a ranked pair, or of the first answer that was edited."""
    if row.label.mark == "drop":
        return
    edited = row.edited
    if row.is_pair:
        if row.label.preference in PREFERENCES[:2]:
            better, worse = PREFERENCES[:2] if row.label.preference == "chosen" else PREFERENCES[1::-1]
            yield {"prompt": edited["prompt"], "chosen": edited[better], "rejected": edited[worse]}
        return
    pairs = zip(edited["messages"], row.original["messages"], strict=True)
    for index, (now, before) in enumerate(pairs):
        if now["role"] == "assistant" and now != before and not now.get("tool_calls"):
            yield {"prompt": edited["messages"][:index], "chosen": [now], "rejected": [before]}
            return
