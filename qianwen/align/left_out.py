"""Records that a run leaves out, counted by reason: one bad record ends no run, and none is left out in silence."""

from qianwen.align.turns import RecordError
from qianwen.runtime.translation import tr

MAX_LINES = 8  # reasons in a report; the rest is a number


class LeftOut:
    """The records left out so far. For each reason it has their number and the message of the first one."""

    def __init__(self) -> None:
        self.count = 0
        self._reasons: dict[str, tuple[int, str]] = {}

    def add(self, place: str, error: Exception) -> None:
        """Count a record; `place` is its place in the file, such as "line 3"."""
        reason = error.reason if isinstance(error, RecordError) else str(error)
        count, first = self._reasons.get(reason, (0, f"{place}: {error}"))
        self._reasons[reason] = count + 1, first
        self.count += 1

    def report(self) -> str:
        """The reasons, the most frequent first, one a line."""
        ranked = sorted(self._reasons.values(), key=lambda entry: -entry[0])
        lines = [
            "  " + (tr("{count:,} like {first}", count=count, first=first) if count > 1 else first)
            for count, first in ranked[:MAX_LINES]
        ]
        rest = sum(count for count, _ in ranked[MAX_LINES:])
        return "\n".join([*lines, *([tr("  {count:,} for other reasons", count=rest)] if rest else [])])
