"""The report of an ablation: the law's ranking of test mixtures, its proposal, and the comparison of mixtures."""

from typing import Any

import numpy as np

from qianwen.data.tokens.mixing_law import natural
from qianwen.runtime.page import Page, new_axes
from qianwen.runtime.translation import tr
from qianwen.train.ablation import FIT, TEST, Ablation


def write_report(ablation: Ablation, law: dict[str, Any]) -> None:
    """Write `report.html` into the ablation's folder."""
    page = Page(tr("Mixtures of {name}", name=ablation.folder.resolve().name))
    purposes = [what for what, _ in ablation.rows]
    page.headline(
        {
            tr("proxy models for the fit"): purposes.count(FIT),
            tr("proxy models for the test"): purposes.count(TEST),
            tr("Spearman correlation on held-out mixtures"): law["spearman"],
            tr("Spearman correlation, leave-one-out"): law["left_out"]["spearman"],
            tr("predicted loss of the proposal"): law["predicted"],
        }
    )
    _proposal(page, ablation, law)
    _ranking(page, law)
    _comparison(page, ablation)
    page.write(ablation.folder / "report.html")


def _proposal(page: Page, ablation: Ablation, law: dict[str, Any]) -> None:
    page.section(tr("Proposal"))
    tokens = ablation.domains.tokens
    shares = natural(tokens)
    rows = [
        (name, tokens[name], shares[name], weight, law["spread"][name], weight / shares[name])
        for name, weight in law["proposal"].items()
    ]
    header = [tr("domain"), tr("tokens"), tr("natural"), tr("weight"), tr("± (bootstrap)"), tr("weight / natural")]
    page.table(header, rows)
    page.paragraph(
        tr("Predicted loss: {loss:.4f} ± {error:.4f} nats per token.", loss=law["predicted"], error=law["error"])
    )


def _ranking(page: Page, law: dict[str, Any]) -> None:
    page.section(tr("Held-out mixtures"))
    test = law["test"]
    figure, (axes,) = new_axes()
    axes.errorbar(test["measured"], test["predicted"], yerr=test["error"], fmt="o")
    ends = [min(test["measured"] + test["predicted"]), max(test["measured"] + test["predicted"])]
    axes.plot(ends, ends, linewidth=0.8)
    axes.set_xlabel(tr("measured loss"))
    axes.set_ylabel(tr("predicted loss"))
    page.figure(figure, tr("Predicted and measured loss of held-out mixtures"))
    page.table([tr("domain"), tr("Spearman")], law["spearman_by_domain"].items())


def _comparison(page: Page, ablation: Ablation) -> None:
    page.section(tr("Compared over seeds"))
    names = ablation.domains.names
    rows = [
        (
            what,
            float(np.mean(result["by_seed"])),
            float(np.std(result["by_seed"])),
            *(result["losses"][n] for n in names),
        )
        for what, result in ablation.compared().items()
    ]
    page.table([tr("mixture"), tr("loss"), tr("± (seeds)"), *names], rows)
