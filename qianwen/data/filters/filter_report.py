"""What each filter of an ensemble drops, and what only their vote does: measured on texts of sources none learned from.

Samples stand in the report to be read, and in `drops.jsonl` with a place for a reader's judgement: a filter that nobody
has read is not known. The samples are those of least hash, so the same ones until the drops change.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qianwen.data.curate.corpus import chance
from qianwen.data.filters.features import GOOD, LOW, MEMBERS, UNFIT
from qianwen.data.filters.score_calibration import auc, false_positives
from qianwen.data.filters.vote import Ensemble
from qianwen.runtime.files import write_jsonl
from qianwen.runtime.page import Page, new_axes
from qianwen.runtime.translation import tr

SAMPLES = 50  # drops of each member to read
RECALL = 0.9  # of what is to be dropped, at which false positives are compared
SHOWN = 600  # characters of a sample
VOTE = "vote"


class Judged:
    """Labelled texts, rows of {"text", "label", "lang", "source"}, and what the ensemble says of them."""

    def __init__(self, ensemble: Ensemble, rows: Sequence[Mapping[str, str]]) -> None:
        self.rows = rows
        members, vote = ensemble.logits([row["text"] for row in rows])
        self.logits = dict(zip(MEMBERS, members.T, strict=True)) | {VOTE: vote}
        self.label = np.array([row["label"] for row in rows])
        self.lang = np.array([row["lang"] for row in rows])
        self.source = np.array([row["source"] for row in rows])

    def measured(self) -> dict[str, dict[str, float]]:
        """For each language: AUC of quality (of the vote between good and low) and of safety (of its member), and false
        positives at equal recall by member and vote."""
        found = {}
        for lang in [*sorted(set(self.lang)), "all"]:
            here = (self.lang == lang) | (lang == "all")
            prose = here & (self.label != UNFIT)
            bad = self.label[here] != GOOD
            numbers = {
                "quality auc": auc(self.logits[VOTE][prose], self.label[prose] == LOW),
                "safety auc": auc(self.logits["safety"][here], self.label[here] == UNFIT),
                "vote auc": auc(self.logits[VOTE][here], bad),
            }
            numbers |= {
                f"quality auc, {name}": auc(self.logits[name][prose], self.label[prose] == LOW)
                for name in MEMBERS
                if name != "safety"
            }
            wrong = {name: false_positives(logits[here], bad, RECALL) for name, logits in self.logits.items()}
            best = min(wrong[name] for name in MEMBERS)
            numbers |= {f"false positives, {name}": value for name, value in wrong.items()}
            found[lang] = numbers | {"vote / best member": wrong[VOTE] / best if best else float("nan")}
        return found

    def by_source(self) -> list[tuple[str, str, str, int, *tuple[float, ...]]]:
        """Language, source, label, how many, and the share each member and the vote drop."""
        kinds = sorted(set(zip(self.lang, self.source, self.label, strict=True)))
        rows = []
        for lang, source, label in kinds:
            here = (self.lang == lang) & (self.source == source) & (self.label == label)
            shares = [float((logits[here] > 0).mean()) for logits in self.logits.values()]
            rows.append((str(lang), str(source), str(label), int(here.sum()), *shares))
        return rows

    def drops(self) -> list[dict[str, Any]]:
        """SAMPLES drops of each member, and as many that no member drops but the vote does."""
        order = np.argsort([chance(row["text"], "read") for row in self.rows])
        dropped = {name: logits > 0 for name, logits in self.logits.items()}
        alone = dropped[VOTE] & ~np.any([dropped[name] for name in MEMBERS], axis=0)
        chosen = {name: dropped[name] for name in MEMBERS} | {"only the vote": alone}
        return [
            {
                "dropped by": name,
                **{key: self.rows[number][key] for key in ("label", "lang", "source")},
                "text": self.rows[number]["text"][:SHOWN],
                "log-odds": {which: round(float(logits[number]), 2) for which, logits in self.logits.items()},
            }
            for name, which in chosen.items()
            for number in [place for place in order if which[place]][:SAMPLES]
        ]


def write_report(folder: Path, judged: Judged) -> dict[str, dict[str, float]]:
    """Write `report.html` and `drops.jsonl` beside a filter, and return what was measured."""
    measured, drops = judged.measured(), judged.drops()
    write_jsonl(folder / "drops.jsonl", drops)
    page = Page(tr("Filter {name}", name=folder.resolve().name))
    page.headline({tr("test texts, from other sources"): len(judged.rows), **_headline(measured)})
    page.section(tr("Results"))
    languages = list(measured)
    rows = [(name, *(measured[lang][name] for lang in languages)) for name in measured["all"]]
    page.table([tr("at {recall:.0%} recall", recall=RECALL), *languages], rows)
    page.section(tr("Dropped, by source"))
    page.table([tr("language"), tr("source"), tr("label"), tr("texts"), *MEMBERS, tr("vote")], judged.by_source())
    _odds(page, judged)
    page.section(tr("Examples of dropped texts"))
    for name in dict.fromkeys(row["dropped by"] for row in drops):
        page.paragraph(name)
        for row in (row for row in drops if row["dropped by"] == name):
            odds = "  ".join(f"{which} {value:+.1f}" for which, value in row["log-odds"].items())
            page.text(f"{row['label']}, {row['lang']}, {row['source']}: {odds}\n{row['text']}")
    page.write(folder / "report.html")
    return measured


def _headline(measured: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {
        f"{name} {lang}": numbers[name]
        for lang, numbers in measured.items()
        for name in ("quality auc", "safety auc")
        if lang != "all"
    } | {"vote / best member": measured["all"]["vote / best member"]}


def _odds(page: Page, judged: Judged) -> None:
    page.section(tr("Log-odds of the vote"))
    figure, (axes,) = new_axes()
    bins = np.linspace(-15, 15, 61)
    for label in (GOOD, LOW, UNFIT):
        odds = np.clip(judged.logits[VOTE][judged.label == label], -15, 15)
        axes.hist(odds, bins=bins.tolist(), histtype="step", label=label, density=True)
    axes.legend()
    axes.set_xlabel(tr("log-odds that a text is dropped"))
    page.figure(figure, tr("Log-odds of the test texts, by label"))
