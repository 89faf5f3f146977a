"""The page of a red-team run, `redteam.html`: compliance by category and attack, and every transcript, with filters.

It is made from the folder of results alone. The reader filters the transcripts by verdict, attack and category; each
has the conversation, the request in plain words, and the verdict of the rule, so that it can be checked by eye.
"""

from collections.abc import Sequence
from pathlib import Path

from qianwen.align.safety.taxonomy import category_title
from qianwen.eval.results import ANSWERS, Results, TaskResults
from qianwen.eval.rows import Row
from qianwen.eval.safety.red_team import OFF_SUBJECT, RedTeam
from qianwen.eval.tables import model_name
from qianwen.runtime.page import Card, Cell, Page
from qianwen.runtime.translation import tr

PAGE = "redteam.html"
PER_CELL = 2  # transcripts of each verdict under one attack in one category; the file of answers has all
TITLE_LEN = 90


def write_red_team_page(results: Results) -> Path:
    """Write the page beside the results of the task `redteam`."""
    task = results.tasks[RedTeam.name]
    page = Page(tr("Red teaming of {model}", model=model_name(results)))
    page.headline({tr("compliance with harmful requests"): percent(task, "compliance")})
    page.paragraph(
        tr(
            "A reply counts as compliance unless it refuses in full. Refusals are found by a rule, and whether a reply "
            "is really harmful is not judged: read the transcripts. Intervals are bootstrap intervals over prompts."
        )
    )
    for kind, title in (("category", tr("category")), ("attack", tr("attack")), ("language", tr("language"))):
        page.section(tr("Compliance by {kind}", kind=title))
        page.table([title, tr("compliance"), tr("95 % interval"), tr("conversations")], rows_of(task, kind))
    page.section(tr("Compliance by attack and category"))
    page.table(*_grid(task))
    page.section(tr("Transcripts"))
    page.links({tr("all transcripts"): f"{ANSWERS}/{task.path.name}"})
    _add_transcripts(page, task.rows)
    path = results.folder / PAGE
    page.write(path)
    return path


def rows_of(task: TaskResults, kind: str) -> list[list[Cell]]:
    """Name, compliance, interval and number of conversations for each category, attack or language."""
    prefix = f"compliance/{kind}/"
    return [
        [category_title(name.removeprefix(prefix)), percent(task, name), interval(task, name), value.num_examples]
        for name, value in task.metrics.items()
        if name.startswith(prefix)
    ]


def percent(task: TaskResults, metric: str) -> str:
    """A metric in percent."""
    return f"{task.metrics[metric].value:.1%}" if metric in task.metrics else "–"


def interval(task: TaskResults, metric: str) -> str:
    """The interval of a metric in percent."""
    return f"{task.metrics[metric].low:.1%} – {task.metrics[metric].high:.1%}" if metric in task.metrics else "–"


def _grid(task: TaskResults) -> tuple[list[str], list[list[Cell]]]:
    """Attacks down, categories across; each cell says how many of its conversations complied."""
    counts: dict[tuple[str, str], list[bool]] = {}
    for row in _answered(task.rows):
        facts = row["facts"]
        counts.setdefault((facts["attack"], facts["category"]), []).append(row["score"]["verdict"] == "wrong")
    attacks, names = (list(dict.fromkeys(key[place] for key in counts)) for place in (0, 1))
    rows: list[list[Cell]] = []
    for attack in attacks:
        cells = [counts.get((attack, name), []) for name in names]
        rows.append([attack, *(f"{sum(cell)} / {len(cell)}" for cell in cells)])
    return [tr("attack"), *map(category_title, names)], rows


def _add_transcripts(page: Page, rows: Sequence[Row]) -> None:
    answered = _answered(rows)
    room: dict[tuple[str, str, str], int] = {}
    cards = []
    for row in answered:
        facts, verdict = row["facts"], row["score"]["extracted"]
        cell = (verdict, facts["attack"], facts["category"])
        room[cell] = room.get(cell, 0) + 1
        if room[cell] <= PER_CELL:
            cards.append(_card(row))
    if len(cards) < len(rows):
        message = (
            "{count:,} of {total:,} transcripts are below: the first {limit} of each verdict, attack and category."
        )
        page.paragraph(tr(message, count=len(cards), total=len(rows), limit=PER_CELL))
    verdicts = {card.kind: verdict_title(card.kind) for card in cards}
    attacks = {card.further[0]: card.further[0] for card in cards}
    names = {card.further[1]: category_title(card.further[1]) for card in cards}
    page.cards(verdicts, cards, (attacks, names))


def _answered(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if "error" not in row]


def _card(row: Row) -> Card:
    facts, verdict = row["facts"], row["score"]["extracted"]
    turns = row["answer"].get("conversation") or [
        *({"role": "user", "content": text} for text in row["prompt"]),
        {"role": "assistant", "content": row["answer"].get("text", "")},
    ]
    transcript = "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)
    title = f"#{row['index']} · {verdict_title(verdict)} · {facts['attack']} · {facts['request']}"
    short = title if len(title) <= TITLE_LEN else f"{title[:TITLE_LEN]}…"
    parts = [(tr("conversation"), transcript), (tr("the request in plain words"), facts["request"])]
    return Card(verdict, short, parts, (facts["attack"], facts["category"]))


def verdict_title(verdict: str) -> str:
    """A verdict on a reply in the user's language."""
    titles = {
        "refusal": tr("refusal"),
        "partial refusal": tr("partial refusal"),
        "compliance": tr("compliance"),
        OFF_SUBJECT: tr("off the subject"),
    }
    return titles[verdict]
