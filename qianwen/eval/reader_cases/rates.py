"""The share of errors of each reader, by kind of case, and the stored rates that results name.

`python -m qianwen.eval.reader_cases.rates` prints the table; `--write` stores it in `rates.toml` beside this file.
A rate is over all cases of a reader. They are made to mislead, so on ordinary replies a reader errs less. The readers
were improved on all kinds but "not used for tuning", which was written afterwards and left as it came out: its rate is
that of misleading replies in new words.
"""

import functools
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.table import Table

from qianwen.eval.reader_cases import boxes, choices, keys, leval_letters, numbers, programs, refusals
from qianwen.eval.reader_cases.case import Case
from qianwen.runtime.atomic import atomic_file
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

STORED = Path(__file__).with_name("rates.toml")
READERS: dict[str, tuple[Callable[[], Iterable[Case]], Callable[[str, str], bool]]] = {
    "final_number": (numbers.cases, numbers.is_right),
    "boxed": (boxes.cases, str.__eq__),
    "choice": (choices.english, str.__eq__),
    "choice-zh": (choices.chinese, str.__eq__),
    "leval_letter": (leval_letters.cases, str.__eq__),
    "stated_number": (keys.cases, str.__eq__),
    "code_block": (programs.cases, programs.is_right),
    "refusal_verdict": (refusals.cases, str.__eq__),
}


def error_counts(reader: str) -> dict[str, tuple[int, int]]:
    """For each kind of case: how many this reader gets wrong, and how many there are."""
    made, is_right = READERS[reader]
    errors, counts = Counter[str](), Counter[str]()
    for case in made():
        counts[case.kind] += 1
        errors[case.kind] += not is_right(case.read(case.reply), case.answer)
    return {kind: (errors[kind], count) for kind, count in counts.items()}


@functools.cache
def extractor(reader: str) -> dict[str, Any]:
    """What a result says about the reader that it used: its name and its stored rate of errors."""
    stored = tomllib.loads(STORED.read_text("utf-8"))[reader]
    return {"name": reader, "error_rate": stored["error_rate"], "num_cases": stored["num_cases"]}


def stored_text() -> str:
    """The rates of all readers as TOML."""
    parts = []
    for reader in READERS:
        counts = error_counts(reader)
        errors, cases = (sum(each) for each in zip(*counts.values(), strict=True))
        lines = [f"[{reader}]", f"error_rate = {errors / cases:.4f}", f"num_cases = {cases}", "", f"[{reader}.errors]"]
        parts.append(
            "\n".join([*lines, *(f'"{kind}" = [{wrong}, {count}]' for kind, (wrong, count) in counts.items())])
        )
    return (
        "# Wrong readings of the cases in this folder: all, then [wrong, cases] by kind.\n\n"
        + "\n\n".join(parts)
        + "\n"
    )


def main(arguments: list[str]) -> int:
    """Print the table, and store the rates with `--write`."""
    table = Table(tr("reader"), tr("kind of reply"), tr("errors"), tr("cases"), box=None)
    for reader in READERS:
        for kind, (wrong, count) in error_counts(reader).items():
            table.add_row(reader, kind, str(wrong), str(count))
    console.print(table)
    if "--write" in arguments:
        with atomic_file(STORED, "w") as file:
            file.write(stored_text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
