"""Proxy models: small networks, each trained on one mixture, and the data of an ablation.

    tokenizer/        a vocabulary trained on the inputs: small, since the embedding is most of a small network
    domains/NAME/     token files of each domain (`data/tokens/mixture.py`)
    held_out/NAME/    held-out documents of the same domains

A proxy is trained with the training loop (`loop.py`) on the stream of a mixture; its result is the loss on the held-out
text of every domain. It runs on one thread, so its numbers do not depend on how many proxies run in parallel.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from qianwen.data.curate.corpus import chance, is_held_out
from qianwen.data.documents.readers import readable_documents
from qianwen.data.tokens.mixing_law import uniform
from qianwen.data.tokens.mixture import MIXTURE, MixedDataset, normalised, open_domain, write_domains
from qianwen.data.tokens.pack import PackedDataset
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.runtime.device import compute_dtype, num_threads, seed_everything
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import atomic_folder
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.train import train_vocabulary
from qianwen.train.held_out import HeldOut
from qianwen.train.loop import LoopConfig, run
from qianwen.train.optim import AdamW, AdamWConfig
from qianwen.train.pretrain import next_token_loss
from qianwen.train.state import TrainState

TOKENIZER, DOMAINS, HELD_OUT = "tokenizer", "domains", "held_out"
LEARNED = 20_000_000  # maximum characters to train the vocabulary on


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """Number and size of the proxies, their data and their evaluation."""

    inputs: str  # input documents, in any format that `data/documents/readers.py` reads
    by: tuple[str, ...] = ("kind",)  # fields that define a domain: source, lang, kind
    vocab_size: int = 4096  # size of the vocabulary of the proxies
    model: QwenConfig
    seq_len: int = 64  # short, so that a step has many documents: with few, their order matters as much as the mixture
    loop: LoopConfig
    optim: AdamWConfig = field(default_factory=AdamWConfig)
    num_fit: int = 32  # number of mixtures to fit the law to
    num_test: int = 10  # number of test mixtures
    seeds: int = 3  # number of seeds in the comparison of proposal, natural and uniform weights
    without: tuple[str, ...] = ()  # domains to ablate: the proposal is also trained without each of them
    importance: dict[str, float] = field(
        default_factory=dict
    )  # weight of each domain's held-out loss; empty: all equal
    held_out: float = 0.05  # fraction of the documents that is held out
    held_out_tokens: int = 4096  # maximum held-out tokens of each domain
    run_tokens: int = 0  # tokens of the full run; if set, no domain is repeated more than `max_epochs` times in it
    max_epochs: float = 4.0
    seed: int = 0


class Proxy(NamedTuple):
    """One small run: `purpose` is fit, test, or the name of a mixture that is compared."""

    purpose: str
    number: int
    seed: int
    weights: dict[str, float]

    @property
    def key(self) -> tuple[str, int]:
        return self.purpose, self.number


class Domains:
    """The domains of an ablation's folder: their training streams and their held-out texts."""

    def __init__(self, folder: Path, config: AblationConfig) -> None:
        self.folder, self.config = folder, config
        names = sorted(_names(folder / DOMAINS))
        self.parts = {name: open_domain(folder / DOMAINS / name, config.seq_len, seed=config.seed) for name in names}
        if len(names) < 2:
            raise ConfigError(
                tr("there is only one domain ({names}), so there is nothing to mix", names=", ".join(names))
            )
        self.held_out = HeldOut({name: self._held_out(name) for name in names}, self.eod_id, config.seq_len)

    @property
    def names(self) -> list[str]:
        return list(self.parts)

    @property
    def eod_id(self) -> int:
        return next(iter(self.parts.values())).eod_id

    @property
    def tokens(self) -> dict[str, int]:
        return {name: part.num_tokens for name, part in self.parts.items()}

    @property
    def importance(self) -> np.ndarray:
        """[D], summing to 1."""
        given = normalised(self.config.importance or uniform(self.names), self.names)
        return np.array([given[name] for name in self.names])

    @property
    def most(self) -> np.ndarray | None:
        """The largest weight of each domain that `max_epochs` allows in the full run [D]."""
        if not self.config.run_tokens:
            return None
        sizes = np.array([self.tokens[name] for name in self.names])
        most = np.minimum(1.0, self.config.max_epochs * sizes / self.config.run_tokens)
        if most.sum() < 1:
            raise ConfigError(
                tr("{tokens:,} tokens are more than {epochs} epochs of the {found:,} available tokens",
                   tokens=self.config.run_tokens, epochs=self.config.max_epochs, found=int(sizes.sum()))
            )  # fmt: skip
        return most

    def _held_out(self, name: str) -> Iterator[list[int]]:
        """Held-out documents of a domain, up to `held_out_tokens` tokens."""
        part = PackedDataset(self.folder / HELD_OUT / name, self.config.seq_len)
        left = self.config.held_out_tokens
        for ids in part.documents():
            yield ids[:left].tolist()
            if (left := left - len(ids)) <= 0:
                return


def prepare(folder: Path, config: AblationConfig) -> None:
    """Train the vocabulary and write the token files, unless they exist."""

    if not (folder / TOKENIZER).exists():
        size = sum(len(document["text"]) for document in readable_documents(config.inputs))
        texts = (document["text"] for document in readable_documents(config.inputs))
        chosen = (text for text in texts if chance(text, "learn") < LEARNED / max(size, 1))
        vocabulary = train_vocabulary(chosen, config.vocab_size)
        with atomic_folder(folder / TOKENIZER) as temporary:
            Tokenizer(vocabulary).save(temporary)
    tokenizer = Tokenizer.from_folder(folder / TOKENIZER)
    for name, is_test in ((DOMAINS, False), (HELD_OUT, True)):
        if not (folder / name / MIXTURE).exists():
            documents = readable_documents(config.inputs)
            part = (each for each in documents if is_held_out(each["text"], config.held_out) == is_test)
            write_domains(part, folder / name, config.by, tokenizer.encode_batch, tokenizer.eod_id)
    if missing := _names(folder / DOMAINS) ^ _names(folder / HELD_OUT):
        message = tr(
            "{name} has too few documents for a held-out set; remove it, or raise --held-out", name=min(missing)
        )
        raise ConfigError(message)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()}


# ---- one proxy ---------------------------------------------------------------------------------------------------


def train_proxy(folder: Path, config: AblationConfig, proxy: Proxy) -> dict[str, Any]:
    """Train one proxy and return its row of `runs.jsonl`."""
    with num_threads(1):
        return _train_proxy(folder, config, proxy)


def _train_proxy(folder: Path, config: AblationConfig, proxy: Proxy) -> dict[str, Any]:
    domains = Domains(folder, config)
    seed_everything(proxy.seed)
    model = Qwen(config.model).init_weights(proxy.seed)
    dataset = MixedDataset(domains.parts, proxy.weights, seed=proxy.seed)
    state = TrainState(model, AdamW(model, config.optim, compute_dtype=compute_dtype(torch.device("cpu"))))
    run(model, next_token_loss, lambda at: dataset.batch(at, config.loop.micro_batch_size), config.loop, state)
    losses = domains.held_out.losses(model.eval())
    return {
        **proxy._asdict(),
        "losses": {name: losses[f"held_out_{name}"] for name in domains.names},
        "train_loss": float(np.mean(state.recent_losses[-20:])),
    }
