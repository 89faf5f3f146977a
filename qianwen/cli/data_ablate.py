"""`qianwen data ablate` and `qianwen data mix`: find a mixture of domains, and write its token files."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from qianwen.runtime.log import console
from qianwen.runtime.translation import tr


@dataclass(frozen=True)
class Ablate:
    """Find a good mixture of domains: train small proxy models on random mixtures, fit a law to their losses, propose
    a mixture and compare it with the natural and uniform ones.

    With the default sizes one proxy takes about half a minute on one CPU core. The same command continues an
    interrupted run.
    """

    inputs: tyro.conf.Positional[str]
    """Input documents: the output of `qianwen data curate`, or any folder of text, JSON lines, Parquet."""
    name: str = "ablation"
    """Name of the run folder."""
    by: tuple[str, ...] = ("kind",)
    """Fields that define a domain: source, lang, kind, or several of them."""
    mixtures: int = 32
    """Number of random mixtures to fit the law to; at least 8."""
    tests: int = 10
    """Number of held-out mixtures to test the law on; at least 2."""
    seeds: int = 3
    """Random seeds per mixture when the proposal is compared with natural and uniform weights."""
    without: tuple[str, ...] = ()
    """Domains to ablate: a proxy is also trained on the proposal without each of them."""
    importance: tuple[str, ...] = ()
    """Weight of each domain's loss, as `code=2 books=1`; by default all are equal."""
    run_tokens: int = 0
    """Tokens of the full training run; if set, no domain is repeated more than --max-epochs times in it."""
    max_epochs: float = 4.0
    """Maximum repetitions of a domain; only with --run-tokens."""
    held_out: float = 0.05
    """Fraction of the documents that is held out to measure losses."""
    steps: int = 300
    """Optimizer steps of one proxy model."""
    hidden_size: int = 128
    """Hidden size of a proxy model."""
    layers: int = 3
    """Layers of a proxy model."""
    vocab_size: int = 4096
    """Size of the vocabulary that is trained for the proxies."""
    workers: int = 1
    """Proxies trained at once, one thread each."""
    seed: int = 0
    """Random seed."""


@dataclass(frozen=True)
class Mix:
    """Write a training mixture: the token files of each domain, and the weights to sample the domains with."""

    inputs: tyro.conf.Positional[str]
    """Input documents: the output of `qianwen data curate`, or any folder of text, JSON lines, Parquet."""
    output: tyro.conf.Positional[str]
    """Output folder; pass it to `qianwen pretrain RECIPE --data FOLDER`."""
    vocabulary: str = "qwen"
    """Folder or file of the tokenizer; `qwen`: Qwen's released vocabulary."""
    by: tuple[str, ...] = ("kind",)
    """Fields that define a domain: source, lang, kind, or several of them."""
    weights: tuple[str, ...] = field(default=())
    """Sampling weights, as `code=0.2 books=0.8`, or the `law.json` of an ablation. By default each domain's size."""


def ablate(options: Ablate) -> int:
    """Prepare the data, train the proxies, propose a mixture, compare it and write the report."""
    from qianwen.runtime.errors import ConfigError
    from qianwen.runtime.log import progress
    from qianwen.train.ablation import MIXTURE, Ablation
    from qianwen.train.ablation_report import write_report
    from qianwen.train.job import Job
    from qianwen.train.proxy_model import prepare

    if options.mixtures < 8 or options.tests < 2 or options.seeds < 1:
        raise ConfigError(tr("an ablation needs at least 8 mixtures, 2 tests and 1 seed"))
    config = _config(options)
    with Job.start(options.name, "ablate", config) as job:
        path = job.path
        prepare(path, config)
        ablation = Ablation(path, config)
        first = ablation.first_proxies()
        missing = sum(proxy.key not in ablation.rows for proxy in first)
        for _ in progress(ablation.train(first, options.workers), missing, tr("training proxies")):
            pass
        law = ablation.propose()
        last = ablation.last_proxies(ablation.proposal())
        missing = sum(proxy.key not in ablation.rows for proxy in last)
        for _ in progress(ablation.train(last, options.workers), missing, tr("comparing mixtures")):
            pass
        write_report(ablation, law)
    _say(law, ablation.compared())
    command = f"qianwen data mix {options.inputs} mixture --weights {path / 'law.json'}"
    console.print(tr("proposed: {path}, report: {report}", path=path / MIXTURE, report=path / "report.html"))
    console.print(tr("next: {command}", command=command))
    return 0


def _config(options: Ablate) -> Any:
    from qianwen.model.config import QwenConfig
    from qianwen.train.loop import LoopConfig
    from qianwen.train.proxy_model import AblationConfig

    model = QwenConfig(
        vocab_size=options.vocab_size,
        hidden_size=options.hidden_size,
        intermediate_size=3 * options.hidden_size,
        num_hidden_layers=options.layers,
        num_attention_heads=max(1, options.hidden_size // 64),
        max_position_embeddings=256,
        tie_word_embeddings=True,
    )
    loop = LoopConfig(
        steps=options.steps, sequences_per_step=16, micro_batch_size=16, lr=2e-3, warmup_steps=options.steps // 10,
        min_lr_ratio=0.0,
    )  # fmt: skip
    return AblationConfig(
        inputs=options.inputs, by=options.by, held_out=options.held_out, vocab_size=options.vocab_size, model=model,
        loop=loop, num_fit=options.mixtures, num_test=options.tests, seeds=options.seeds, without=options.without,
        importance=weights_of(options.importance), run_tokens=options.run_tokens, max_epochs=options.max_epochs,
        seed=options.seed,
    )  # fmt: skip


def weights_of(words: tuple[str, ...]) -> dict[str, float]:
    """Weight of each domain, from `("code=0.2", "books=0.8")` or from the proposal in a `law.json`."""
    from qianwen.runtime.errors import ConfigError

    if len(words) == 1 and words[0].endswith(".json"):
        try:
            return dict(json.loads(Path(words[0]).read_text(encoding="utf-8"))["proposal"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(tr("{path} contains no proposed mixture: {error}", path=words[0], error=error)) from error
    weights = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            weights[name] = float(value)
        except ValueError:
            raise ConfigError(tr("{value!r} is not a weight: write name=number", value=word)) from None
    return weights


def _say(law: dict[str, Any], compared: dict[str, dict[str, Any]]) -> None:
    message = tr(
        "Spearman correlation {rank:.2f} on {tests} held-out mixtures, {all_rank:.2f} on all "
        "{count} by leave-one-out; predicted loss of the proposed mixture {loss:.4f} ± "
        "{error:.4f}",
        rank=law["spearman"],
        tests=len(law["test"]["measured"]),
        all_rank=law["left_out"]["spearman"],
        count=law["left_out"]["mixtures"],
        loss=law["predicted"],
        error=law["error"],
    )
    console.print(message)
    for name, weight in law["proposal"].items():
        console.print(f"  {name:<24} {weight:6.3f} ± {law['spread'][name]:.3f}")
    for name, losses in compared.items():
        console.print(f"{name:<26} " + "  ".join(f"{loss:.4f}" for loss in losses["by_seed"]))


def mix(options: Mix) -> int:
    """Tokenise each domain, then write the weights into the same folder."""
    from qianwen.data.documents.readers import readable_documents
    from qianwen.data.tokens.mixture import normalised, write_domains, write_weights
    from qianwen.runtime.log import progress
    from qianwen.tokenizer.tokenizer import Tokenizer

    output, weights = Path(options.output), weights_of(options.weights)
    tokenizer = Tokenizer.qwen() if options.vocabulary == "qwen" else Tokenizer.from_folder(options.vocabulary)
    documents = progress(readable_documents(options.inputs), None, tr("tokenising"))
    tokens = write_domains(documents, output, options.by, tokenizer.encode_batch, tokenizer.eod_id)
    shares = normalised(weights or tokens, tokens)
    write_weights(output, shares, output)
    total = sum(tokens.values())
    console.print(f"{tr('domain'):<24} {tr('tokens'):>16} {tr('natural'):>9} {tr('weight'):>9}")
    for name, size in tokens.items():
        console.print(f"{name:<24} {size:>16,} {size / total:>9.3f} {shares[name]:>9.3f}")
    console.print(tr("next: {command}", command=f"qianwen pretrain tiny --name mine --data {output}"))
    return 0
