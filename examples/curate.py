"""Curate a folder of text with a filter of your own, and see what it dropped and why.

Run it where `qianwen demo` (or `qianwen demo --quick`) has run. A filter is a function from texts to numbers in [0, 1];
it is named as `module:function`, because parts of a large corpus are curated in other processes.
"""

from collections.abc import Callable
from pathlib import Path

from qianwen.data.curate.curation import curate
from qianwen.data.curate.curation_report import write_report
from qianwen.data.curate.filter_part import CurateConfig
from qianwen.data.curate.quality_scorer import Scorer

INPUT, OUTPUT = "runs/demo/text/held_out", Path("curated_by_hand")


def says_little_of(word: str) -> Callable[[list[str]], list[float]]:
    """A filter: how seldom `word` stands in a text."""
    return lambda texts: [1 / (1 + text.lower().count(word)) for text in texts]


if __name__ == "__main__":
    scorer = Scorer(name="seldom_deprecated", function="curate:says_little_of", model="deprecated", threshold=0.3)
    config = CurateConfig(rules=("code", "text"), identify=False)  # the documents say themselves what they are
    counts = curate([INPUT], OUTPUT, config, scorers=[scorer], workers=1)
    for stage, reasons in counts["dropped"].items():
        for reason, count in reasons.items():
            print(f"{count:>6,}  {stage}: {reason}")
    print(f"{counts['kept']['documents']:,} of {counts['read']:,} documents are left; read {write_report(OUTPUT)}")
