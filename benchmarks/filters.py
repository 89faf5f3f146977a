"""The ensemble of filters on texts of unseen sources: how well it separates them, how stable that is, and how fast.

    for SEED in 0 1 2 3 4; do python benchmarks/filter_labels.py PACKAGES FILES labels/$SEED $SEED; done
    python benchmarks/filter_crawl.py ARCHIVES crawl.jsonl
    python benchmarks/filters.py --labels labels --crawl crawl.jsonl

A first table says what each source is used for: to train the members, to calibrate them, or to test. The labels are
good (edited prose), low (low quality) and unfit (abuse, obscenity).

A filter is trained for each folder of `labels` and written there; one that is there is measured. Its shares of dropped
texts at the default threshold are printed, with their median and worst, also for pages of the web that a person read.
The rest is measured for the first folder: false positives of the vote and of the best single member at a recall of 90 %
of low and unfit texts; for each source, the shares dropped by member and vote, with the AUC of the vote against the
good texts of that language.

The speed is that of all four members and the vote, alternating with the curation rules on the same texts: a slower
filter would slow down a curation. Scoring takes one core; a curation runs one scorer on each core.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from pairs import Report, alternate, arguments, console

from qianwen.data.curate.rules import RULES, reasons
from qianwen.data.curate.text_statistics import Batch
from qianwen.data.filters.filter_report import Judged, write_report
from qianwen.data.filters.vote import Ensemble, open_ensemble, train
from qianwen.data.text_arrays import by_size
from qianwen.runtime.files import read_jsonl

MEGABYTES = 24  # scored for a speed
PARTS = ("train", "calibrate", "test")
GROUPS = {  # of test texts: language, label, sources; and whether they should be dropped
    "spam mail dropped": ("en", "low", {"spam mail"}, True),
    "unfit tweets dropped": ("en", "unfit", {"Davidson"}, True),
    "good English lost": ("en", "good", None, False),
    "Chinese insults dropped": ("zh", "unfit", {"insults"}, True),
    "Chinese jokes and flirting dropped": ("zh", "low", {"copied diaries", "copied flirting"}, True),
    "good Chinese lost": ("zh", "good", None, False),
}
CRAWL = {
    "crawl, good English lost": ("en", "good", False),
    "crawl, good Chinese lost": ("zh", "good", False),
    "crawl, arguable English dropped": ("en", "arguable", True),
    "crawl, bad English dropped": ("en", "bad", True),
}


def main() -> None:
    options = arguments(__doc__, labels="labels", crawl="", out="")
    folders = sorted(folder for folder in Path(options.labels).iterdir() if (folder / "train.jsonl").exists())
    crawl = list(read_jsonl(options.crawl)) if options.crawl else []
    report = Report("quality and safety filters", "MB/s")
    shares: list[dict[str, float]] = []
    ratios: dict[str, float] = {}
    for folder in folders[: 1 if options.quick else None]:
        learned, calibration, unseen = (list(read_jsonl(folder / f"{part}.jsonl")) for part in PARTS)
        if options.quick:
            learned, unseen = learned[::8], unseen[::4]
        ensemble = trained(folder / "filter", learned, calibration, report)
        if not shares:
            sources(dict(zip(PARTS, (learned, calibration, unseen), strict=True)))
            report.note("training texts", len(learned))
            measured = measure(ensemble, unseen, Path(options.out) if options.out else None)
            ratios |= separation(measured) | {"speed_vs_rules": timed(ensemble, unseen, options, report)}
        shares.append(dropped(ensemble, unseen, crawl))
        console.print(f"{folder.name}: " + ", ".join(f"{name} {share:.1%}" for name, share in shares[-1].items()))
    summary = spread(shares)
    report.note("seeds", len(shares))
    report.note("shares", {name: dict(zip(("median", "worst"), pair, strict=True)) for name, pair in summary.items()})
    for name, (median, worst) in summary.items():
        console.print(f"{name:<36} median {median:6.1%}  worst {worst:6.1%}")
    report.finish(ratios, options.json)


def trained(folder: Path, learned: list[dict], calibration: list[dict], report: Report) -> Ensemble:
    """The filter of the folder, trained first if there is none."""
    if not folder.exists():
        began = time.perf_counter()
        train(learned, calibration=calibration).save(folder)
        report.note("seconds of training", round(time.perf_counter() - began, 1))
    return open_ensemble(folder)


def sources(parts: Mapping[str, list[dict]]) -> None:
    """Print what each source is used for. A source is in one part only."""
    used: dict[tuple[str, str], set[str]] = {}
    for part, rows in parts.items():
        for (lang, label, source), count in sorted(Counter((r["lang"], r["label"], r["source"]) for r in rows).items()):
            console.print(f"{part:<10}{lang:<4}{label:<7}{source:<24}{count:>6}")
            used.setdefault((lang, source), set()).add(part)
    if twice := [source for source, names in used.items() if len(names) > 1]:
        raise SystemExit(f"sources in two parts: {twice}")


def dropped(ensemble: Ensemble, unseen: list[dict], crawl: list[dict]) -> dict[str, float]:
    """The share of each of GROUPS and CRAWL that the vote drops at its default threshold."""
    votes = ensemble.logits([row["text"] for row in unseen])[1] > 0
    shares = {}
    for name, (lang, label, names, _) in GROUPS.items():
        here = [
            row["lang"] == lang and row["label"] == label and (names is None or row["source"] in names)
            for row in unseen
        ]
        shares[name] = float(votes[here].mean())
    if crawl:
        votes = ensemble.logits([row["text"] for row in crawl])[1] > 0
        for name, (lang, label, _) in CRAWL.items():
            shares[name] = float(votes[[row["lang"] == lang and row["label"] == label for row in crawl]].mean())
    return shares


def spread(shares: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """The median and the worst of each share over the seeds: the least of texts to drop, the largest of good texts."""
    wanted = {name: is_wanted for name, (*_, is_wanted) in (*GROUPS.items(), *CRAWL.items())}
    return {
        name: (
            float(np.median([seed[name] for seed in shares])),
            (min if wanted[name] else max)(seed[name] for seed in shares),
        )
        for name in shares[0]
    }


def timed(ensemble: Ensemble, unseen: list[dict], options: argparse.Namespace, report: Report) -> float:
    """The speed of the ensemble over that of the curation rules."""
    texts = enough([row["text"] for row in unseen], (2 if options.quick else MEGABYTES) * 1_000_000)
    size = sum(len(text.encode()) for text in texts) / 1e6
    pairs = alternate(
        lambda: speed(lambda: ensemble.logits(texts), size), lambda: speed(lambda: ruled(texts), size), options.pairs
    )
    report.add("all members and the vote, beside the curation rules", pairs)
    return pairs.ratio


def separation(measured: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """AUC, and false positives of the best member over those of the vote, by language."""
    ratios = {}
    for lang, numbers in measured.items():
        if lang != "all":
            ratios |= {f"quality_auc_{lang}": numbers["quality auc"], f"safety_auc_{lang}": numbers["safety auc"]}
        if numbers["vote / best member"]:
            ratios[f"best_member_vs_vote_{lang}"] = 1 / numbers["vote / best member"]
    return ratios


def measure(ensemble: Ensemble, unseen: list[dict], out: Path | None) -> dict[str, dict[str, float]]:
    """Print what the report of a filter says, and write it where that is asked for."""
    judged = Judged(ensemble, unseen)
    if out:
        out.mkdir(parents=True, exist_ok=True)
    measured = write_report(out, judged) if out else judged.measured()
    for name in measured["all"]:
        console.print(f"{name:<28}" + "".join(f"{lang:>6} {numbers[name]:.4f}" for lang, numbers in measured.items()))
    for lang, source, label, count, *shares in judged.by_source():
        console.print(f"{lang:<4}{source:<20}{label:<7}{count:>6}" + "".join(f"{share:>8.3f}" for share in shares))
    return measured


def enough(texts: list[str], size: int) -> list[str]:
    """The texts, over and over, until they are so many bytes."""
    found: list[str] = []
    while size > 0:
        for text in texts:
            found.append(text)
            size -= len(text.encode())
            if size <= 0:
                break
    return found


def speed(work: Callable[[], object], size: float) -> float:
    began = time.perf_counter()
    work()
    return size / (time.perf_counter() - began)


def ruled(texts: list[str]) -> None:
    for batch in by_size(texts):
        reasons(Batch(batch, ["en"] * len(batch), ["text"] * len(batch)), tuple(RULES))


if __name__ == "__main__":
    main()
