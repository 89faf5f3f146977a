"""The ensemble of filters on texts of unseen sources: how well it separates them, and how fast.

    python benchmarks/filter_labels.py PACKAGES FILES labels
    python benchmarks/filters.py --train labels/train.jsonl --test labels/test.jsonl

The labels are good (edited prose), low (low quality) and unfit (abuse, obscenity). At a recall of 90 % of low and unfit
texts, the false positives of the vote are compared with those of the best single member. For each source, the shares
dropped at the default threshold are printed by member and vote, with the AUC of the vote against the good texts of that
language. The speed is that of all four members and the vote, alternating with the curation rules on the same texts: a
slower filter would slow down a curation. Scoring takes one core; a curation runs one scorer on each core.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pairs import Report, alternate, arguments, console

from qianwen.data.curate.rules import RULES, reasons
from qianwen.data.curate.text_statistics import Batch
from qianwen.data.filters.filter_report import Judged, write_report
from qianwen.data.filters.vote import Ensemble, train
from qianwen.data.text_arrays import by_size
from qianwen.runtime.files import read_jsonl

MEGABYTES = 24  # scored for a speed


def main() -> None:
    options = arguments(__doc__, train="labels/train.jsonl", test="labels/test.jsonl", out="")
    learned, unseen = list(read_jsonl(options.train)), list(read_jsonl(options.test))
    if options.quick:
        learned, unseen = learned[::8], unseen[::4]
    began = time.perf_counter()
    ensemble = train(learned)
    report = Report("quality and safety filters", "MB/s")
    report.note("training texts", len(learned))
    report.note("seconds of training", round(time.perf_counter() - began, 1))
    measured = measure(ensemble, unseen, Path(options.out) if options.out else None)
    texts = enough([row["text"] for row in unseen], (2 if options.quick else MEGABYTES) * 1_000_000)
    size = sum(len(text.encode()) for text in texts) / 1e6
    pairs = alternate(
        lambda: speed(lambda: ensemble.logits(texts), size), lambda: speed(lambda: ruled(texts), size), options.pairs
    )
    report.add("all members and the vote, beside the curation rules", pairs)
    ratios = {"speed_vs_rules": pairs.ratio}
    for lang, numbers in measured.items():
        if lang != "all":
            ratios |= {f"quality_auc_{lang}": numbers["quality auc"], f"safety_auc_{lang}": numbers["safety auc"]}
        if numbers["vote / best member"]:
            ratios[f"best_member_vs_vote_{lang}"] = 1 / numbers["vote / best member"]
    report.finish(ratios, options.json)


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
