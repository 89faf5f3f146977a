"""Whether a run of an agent solved its task. A reason is given for each thing that is missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from agent_tasks.figures import drawn, shows
from agent_tasks.tasks import AgentTask

MIN_COLOURS = 3  # of a picture that shows something


@dataclass(frozen=True)
class Work:
    """What a run left: its answer, the results of its calls, the cells it ran and the pictures it got back."""

    answer: str
    observations: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    pictures: tuple[Path, ...] = ()


def failures(task: AgentTask, work: Work) -> list[str]:
    """Why the task is not solved; empty if it is.

    With tools the answer itself must be right. With the interpreter the result may be in the answer or in what a cell
    printed, as the user sees both, and a picture must have come back that shows what was asked for.
    """
    if task.figure is None:
        return [f"not in the answer: {part}" for part in task.answer.missing(work.answer)]
    seen = "\n".join((work.answer, *work.observations))
    reasons = [f"neither in the answer nor printed: {part}" for part in task.answer.missing(seen)]
    if not any(_is_picture(path) for path in work.pictures):
        return [*reasons, "no picture came back"]
    if not any(shows(figure, task.figure) for figure in drawn(work.cells, task.files)):
        reasons.append(f"no picture is the {task.figure['kind']} chart that was asked for")
    return reasons


def _is_picture(path: Path) -> bool:
    with Image.open(path) as picture:
        colours = picture.convert("RGB").getcolors(1 << 24)
    return colours is None or len(colours) >= MIN_COLOURS
