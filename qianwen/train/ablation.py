"""Ablation of data mixtures: small proxy runs, and the mixture they propose (Qwen memo: "tuned by ablation").

    tokenizer/ domains/ held_out/     training and test data of the proxies (`proxy_model.py`)
    runs.jsonl   a line for each proxy: purpose, weights, seed, loss on each domain's held-out text
    law.json     the fitted law, its rank correlation on test mixtures, the proposal with its error
    mixture/     the proposal in the format of `pretrain --data`

The proxies for fitting and testing the law use the same seed, so that they differ only in their data. Then the proposal
is compared with natural and uniform weights over several seeds, and with itself without each domain in `without`.

A finished proxy is never trained again: the same call continues after a kill, and gives the same numbers for any number
of workers.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from qianwen.data.tokens.mixing_law import (
    Law,
    Proposal,
    bootstrap_laws,
    bounded,
    draw_mixtures,
    fit_law,
    natural,
    predict_target,
    propose,
    rank_correlation,
    uniform,
)
from qianwen.data.tokens.mixture import normalised, write_weights
from qianwen.runtime.files import atomic_file, read_jsonl, repair_jsonl
from qianwen.train.proxy_model import DOMAINS, AblationConfig, Domains, Proxy, train_proxy

RUNS, LAW, MIXTURE = "runs.jsonl", "law.json", "mixture"
FIT, TEST = "fit", "test"


class Ablation:
    """The folder of an ablation: finished proxies, missing proxies, and the results."""

    def __init__(self, folder: Path, config: AblationConfig) -> None:
        self.folder, self.config = folder, config
        self.domains = Domains(folder, config)
        if config.without:
            normalised(dict.fromkeys(config.without, 1.0), self.domains.names)  # refuses unknown names
        self.rows: dict[tuple[str, int], dict[str, Any]] = {}
        if repair_jsonl(folder / RUNS):
            self.rows = {(row["purpose"], row["number"]): row for row in read_jsonl(folder / RUNS)}

    def first_proxies(self) -> list[Proxy]:
        """The proxies for fitting the law and for testing it."""
        count = self.config.num_fit + self.config.num_test
        drawn = draw_mixtures(len(self.domains.names), count, seed=self.config.seed, max_weights=self.domains.most)
        mixtures = [dict(zip(self.domains.names, map(float, weights), strict=True)) for weights in drawn]
        numbered = [(FIT, n) for n in range(self.config.num_fit)] + [(TEST, n) for n in range(self.config.num_test)]
        return [Proxy(what, n, self.config.seed, mix) for (what, n), mix in zip(numbered, mixtures, strict=True)]

    def last_proxies(self, proposal: Proposal) -> list[Proxy]:
        """The proxies that compare the proposal with natural and uniform weights, and with domains removed, by seed."""
        mixtures = {
            "proposal": proposal.weights,
            "natural": natural(self.domains.tokens),
            "uniform": uniform(self.domains.names),
        }
        for name in self.config.without:
            rest = {each: weight for each, weight in proposal.weights.items() if each != name}
            mixtures[f"without {name}"] = normalised(rest, self.domains.names)
        if (most := self.domains.most) is not None:
            names = self.domains.names
            for what in ("natural", "uniform"):
                weights = np.array([mixtures[what][name] for name in names])
                mixtures[what] = dict(zip(names, map(float, bounded(weights, most)), strict=True))
        seeds = range(self.config.seed + 1, self.config.seed + 1 + self.config.seeds)
        return [Proxy(what, n, seed, mix) for n, seed in enumerate(seeds) for what, mix in mixtures.items()]

    def train(self, proxies: Iterable[Proxy], workers: int = 1) -> Iterator[dict[str, Any]]:
        """Train the missing proxies; append the row of each to `runs.jsonl` when it is done, and yield it."""
        missing = [proxy for proxy in proxies if proxy.key not in self.rows]
        with (self.folder / RUNS).open("a", encoding="utf-8") as file:
            for row in _each(self.folder, self.config, missing, workers):
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())
                self.rows[row["purpose"], row["number"]] = row
                yield row

    def weights_and_losses(self, purpose: str) -> tuple[np.ndarray, np.ndarray]:
        """Weights [R, D] and losses [R, H] of the runs with a purpose, in order."""
        rows = [row for (what, _), row in sorted(self.rows.items()) if what == purpose]
        names = self.domains.names
        weights = np.array([[row["weights"][name] for name in names] for row in rows])
        return weights, np.array([[row["losses"][name] for name in names] for row in rows])

    def laws(self) -> list[Law]:
        """Bootstrap laws of the runs made to fit them."""
        return bootstrap_laws(*self.weights_and_losses(FIT), seed=self.config.seed)

    def propose(self) -> dict[str, Any]:
        """Fit, test and propose; write `law.json` and `mixture/`, and return the contents of the former."""
        laws, importance, names = self.laws(), self.domains.importance, self.domains.names
        proposal = propose(names, laws, importance, max_weights=self.domains.most, seed=self.config.seed)
        weights, losses = self.weights_and_losses(TEST)
        predicted, error = predict_target(laws, weights, importance)
        measured = losses @ importance
        each = np.mean([law.predict(weights) for law in laws], axis=0)
        law = {
            "names": names,
            "importance": importance.tolist(),
            "proposal": proposal.weights,
            "spread": proposal.spread,
            "predicted": proposal.loss,
            "error": proposal.error,
            "test": {"predicted": predicted.tolist(), "error": error.tolist(), "measured": measured.tolist()},
            "spearman": rank_correlation(predicted, measured),
            "left_out": self._left_out(),
            "spearman_by_domain": {
                name: rank_correlation(each[:, number], losses[:, number]) for number, name in enumerate(names)
            },
        }
        with atomic_file(self.folder / LAW, "w") as file:
            json.dump(law, file, indent=1)
        write_weights(self.folder / MIXTURE, proposal.weights, self.folder / DOMAINS)
        return law

    def _left_out(self) -> dict[str, float]:
        """Leave-one-out rank correlation over all mixtures: each is predicted by a law fitted to all others. With only
        ten test mixtures, a correlation of 0.5 can hardly be distinguished from 0.9.
        """
        parts = [self.weights_and_losses(purpose) for purpose in (FIT, TEST)]
        weights, losses = (np.concatenate(each) for each in zip(*parts, strict=True))
        importance, every = self.domains.importance, np.arange(len(weights))
        laws = [fit_law(weights[every != i], losses[every != i]) for i in every]
        predicted = np.concatenate([law.predict(weights[[i]]) for law, i in zip(laws, every, strict=True)])
        return {
            "mixtures": len(weights),
            "spearman": rank_correlation(predicted @ importance, losses @ importance),
        }

    def proposal(self) -> Proposal:
        """The proposal that `propose` wrote."""
        law = json.loads((self.folder / LAW).read_text(encoding="utf-8"))
        return Proposal(law["proposal"], law["spread"], law["predicted"], law["error"])

    def compared(self) -> dict[str, dict[str, Any]]:
        """Each mixture compared → its target loss by seed, and the mean loss on each domain."""
        found = {}
        for what in dict.fromkeys(what for what, _ in self.rows if what not in (FIT, TEST)):
            _, losses = self.weights_and_losses(what)
            mean = dict(zip(self.domains.names, losses.mean(axis=0).tolist(), strict=True))
            found[what] = {"by_seed": (losses @ self.domains.importance).tolist(), "losses": mean}
        return found


def _each(folder: Path, config: AblationConfig, proxies: Sequence[Proxy], workers: int) -> Iterator[dict[str, Any]]:
    """The rows of all proxies, in the order in which they finish."""
    if workers <= 1 or len(proxies) < 2:
        yield from (train_proxy(folder, config, proxy) for proxy in proxies)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            for done in as_completed([pool.submit(train_proxy, folder, config, proxy) for proxy in proxies]):
                yield done.result()
        except BaseException:  # an unfinished proxy is trained again from the start, so do not wait for it
            for worker in list(pool._processes.values()):
                worker.terminate()
            raise
