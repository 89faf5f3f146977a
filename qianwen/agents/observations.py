"""Cut a long result of a tool, so that it does not fill the context of the model.

The model gets the start and the end, and between them a line that says how much is missing and in which file of the
run the whole text is. The start has three quarters of the room: the end of a program's output often has its error.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qianwen.agents.tool import Observation
from qianwen.runtime.files import atomic_file

START_SHARE = 0.75


def cut(observation: Observation, max_chars: int, path: Path) -> Observation:
    """`observation` with at most `max_chars` characters and the line; a longer text is written to `path`."""
    text = observation.text
    if len(text) <= max_chars:
        return observation
    with atomic_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
    start = int(max_chars * START_SHARE)
    end = len(text) - (max_chars - start)
    line = (
        f"[{end - start:,} of {len(text):,} characters are left out here. The whole text is in the file {path.name}.]"
    )
    short = f"{text[:start]}\n{line}\n{text[end:]}"
    return replace(observation, text=short, files=(*observation.files, path))
