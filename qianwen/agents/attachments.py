"""Files that the user attaches to a question: copied into the run's folder, and named to the model."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr


def attach(paths: Iterable[Path], folder: Path) -> list[str]:
    """Copy files into `folder`; returns their names there. A name that is taken gets a number."""
    names = []
    for path in paths:
        path = path.expanduser()
        if not path.is_file():
            raise ConfigError(tr("there is no file {path} to attach", path=path))
        target = folder / (path.name.lstrip(".") or "file")
        number = 1
        while target.exists():
            number += 1
            target = folder / f"{path.stem.lstrip('.')}-{number}{path.suffix}"
        shutil.copyfile(path, target)
        names.append(target.name)
    return names


def with_files(question: str, names: Sequence[str]) -> str:
    """The question with the names of its files, in the words of Qwen's code interpreter benchmark."""
    if not names:
        return question
    is_chinese = re.search(r"[\u4e00-\u9fff]", question)
    return f"[{'上传文件' if is_chinese else 'Upload file '}{', '.join(names)}]\n{question}"
