"""The report of a filter: what each member and the vote drop of test texts, from sources that no member was trained on.

measured     AUC, and false positives at a recall of RECALL, by language
by source    the share that each member and the vote drop at the default threshold, and the AUC of the vote
samples      dropped texts in `report.html` and `drops.jsonl`, to be read by a person. They are those with the
             smallest hashes, so they stay the same until the drops change
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

SAMPLES = 50  # dropped texts of each member
RECALL = 0.9  # share of low and unfit texts that is dropped where false positives are compared
EXCERPT = 600  # characters of a sample
VOTE = "vote"


class Judged:
    """Labelled texts, rows of {"text", "label", "lang", "source"}, and the log-odds that the ensemble gives them."""

    def __init__(self, ensemble: Ensemble, rows: Sequence[Mapping[str, str]]) -> None:
        self.rows = rows
        members, vote = ensemble.logits([row["text"] for row in rows])
        self.logits = dict(zip(MEMBERS, members.T, strict=True)) | {VOTE: vote}
        self.label = np.array([row["label"] for row in rows])
        self.lang = np.array([row["lang"] for row in rows])
        self.source = np.array([row["source"] for row in rows])

    def measured(self) -> dict[str, dict[str, float]]:
        """For each language: AUC of quality (the vote, good against low) and of safety (its member, unfit against the
        rest); for each member and the vote, false positives at equal recall."""
        measured = {}
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
            numbers["good dropped"], numbers["low or unfit dropped"] = (
                float((self.logits[VOTE][here & which] > 0).mean())
                for which in (self.label == GOOD, self.label != GOOD)
            )
            measured[lang] = numbers | {"vote / best member": wrong[VOTE] / best if best else float("nan")}
        return measured

    def by_source(self) -> list[tuple[str, str, str, int, *tuple[float, ...]]]:
        """Language, source, label, number of texts, the share that each member and the vote drop, and the AUC of the
        vote between these texts and the good texts of the language (NaN for good texts)."""
        kinds = sorted(set(zip(self.lang, self.source, self.label, strict=True)))
        rows = []
        for lang, source, label in kinds:
            here = (self.lang == lang) & (self.source == source) & (self.label == label)
            shares = [float((logits[here] > 0).mean()) for logits in self.logits.values()]
            compared = here | ((self.lang == lang) & (self.label == GOOD))
            ranking = auc(self.logits[VOTE][compared], here[compared]) if label != GOOD else float("nan")
            rows.append((str(lang), str(source), str(label), int(here.sum()), *[*shares, ranking]))
        return rows

    def drops(self) -> list[dict[str, Any]]:
        """SAMPLES texts that each member drops, and as many that the vote drops and no member does."""
        order = np.argsort([chance(row["text"], "read") for row in self.rows])
        dropped = {name: logits > 0 for name, logits in self.logits.items()}
        alone = dropped[VOTE] & ~np.any([dropped[name] for name in MEMBERS], axis=0)
        samples = {name: dropped[name] for name in MEMBERS} | {"only the vote": alone}
        return [
            {
                "dropped by": name,
                **{key: self.rows[number][key] for key in ("label", "lang", "source")},
                "text": self.rows[number]["text"][:EXCERPT],
                "log-odds": {judge: round(float(logits[number]), 2) for judge, logits in self.logits.items()},
            }
            for name, is_dropped in samples.items()
            for number in [place for place in order if is_dropped[place]][:SAMPLES]
        ]


def write_report(folder: Path, judged: Judged) -> dict[str, dict[str, float]]:
    """Write `report.html` and `drops.jsonl` to `folder`, and return the measured numbers."""
    measured, drops = judged.measured(), judged.drops()
    write_jsonl(folder / "drops.jsonl", drops)
    page = Page(tr("Filter {name}", name=folder.resolve().name))
    page.headline({tr("test texts, from other sources"): len(judged.rows), **_headline(measured)})
    page.section(tr("Results"))
    languages = list(measured)
    rows = [(name, *(measured[lang][name] for lang in languages)) for name in measured["all"]]
    page.table([tr("at {recall:.0%} recall", recall=RECALL), *languages], rows)
    page.section(tr("Dropped, by source"))
    page.table(
        [tr("language"), tr("source"), tr("label"), tr("texts"), *MEMBERS, tr("vote"), "AUC"], judged.by_source()
    )
    _odds(page, judged)
    page.section(tr("Examples of dropped texts"))
    for name in dict.fromkeys(row["dropped by"] for row in drops):
        page.paragraph(name)
        for row in (row for row in drops if row["dropped by"] == name):
            odds = "  ".join(f"{judge} {value:+.1f}" for judge, value in row["log-odds"].items())
            page.text(f"{row['label']}, {row['lang']}, {row['source']}: {odds}\n{row['text']}")
    page.write(folder / "report.html")
    return measured


def _headline(measured: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {
        f"{name} {lang}": numbers[name]
        for lang, numbers in measured.items()
        for name in ("quality auc", "safety auc", "good dropped", "low or unfit dropped")
        if lang != "all"
    } | {"vote / best member": measured["all"]["vote / best member"]}


def _odds(page: Page, judged: Judged) -> None:
    page.section(tr("Log-odds of the vote"))
    figure, (axes,) = new_axes()
    bins = np.linspace(-15, 15, 61)  # log-odds beyond ±15 count in the outermost bins
    for label in (GOOD, LOW, UNFIT):
        odds = np.clip(judged.logits[VOTE][judged.label == label], -15, 15)
        axes.hist(odds, bins=bins.tolist(), histtype="step", label=label, density=True)
    axes.legend()
    axes.set_xlabel(tr("log-odds that a text is dropped"))
    page.figure(figure, tr("Log-odds of the test texts, by label"))
