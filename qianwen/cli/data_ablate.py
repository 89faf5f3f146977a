"""`qianwen data ablate` and `qianwen data mix`: which mixture of domains to train on, and token files in it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from qianwen.runtime.log import console
from qianwen.runtime.translation import tr


@dataclass(frozen=True)
class Ablate:
    """Train small proxies on many mixtures, fit their losses, propose a mixture and compare it; goes on when run again.

    The fields of the proxies (`--proxy.…`) are those of a pretraining loop; the defaults take a CPU core about half a
    minute each.
    """

    inputs: tyro.conf.Positional[str]
    """Documents: the output of `qianwen data curate`, or any folder of text, JSON lines, Parquet."""
    name: str = "ablation"
    """Of the run folder."""
    by: tuple[str, ...] = ("kind",)
    """What makes a domain: source, lang, kind, or several."""
    mixtures: int = 32
    """Random mixtures the law is fitted to."""
    tests: int = 10
    """Mixtures it never sees, which it must rank."""
    seeds: int = 3
    """Seeds over which the proposal is compared with natural and uniform weights."""
    without: tuple[str, ...] = ()
    """Domains whose worth is asked for: the proposal is also trained without each."""
    importance: tuple[str, ...] = ()
    """What the loss on each domain counts, `code=2 books=1`; by default all alike."""
    run_tokens: int = 0
    """Tokens of the run the mixture is for: with it no domain is repeated more than --max-epochs times."""
    max_epochs: float = 4.0
    held_out: float = 0.05
    """Share of the documents that losses are measured on and nothing learns from."""
    steps: int = 300
    """Optimizer steps of a proxy."""
    hidden_size: int = 128
    """Width of a proxy."""
    layers: int = 3
    vocab_size: int = 4096
    """Of the vocabulary learned for the proxies."""
    workers: int = 1
    """Proxies at once, one thread each."""
    seed: int = 0


@dataclass(frozen=True)
class Mix:
    """Write the token files of a training mixture: each domain's, and the weights it is read with."""

    inputs: tyro.conf.Positional[str]
    """Documents: the output of `qianwen data curate`, or any folder of text, JSON lines, Parquet."""
    output: tyro.conf.Positional[str]
    """Folder to write; `qianwen pretrain RECIPE --data FOLDER` reads it."""
    vocabulary: str = "qwen"
    """Folder or file of the tokenizer; `qwen`: the released one."""
    by: tuple[str, ...] = ("kind",)
    """What makes a domain: source, lang, kind, or several."""
    weights: tuple[str, ...] = field(default=())
    """`code=0.2 books=0.8`, or one file: the `law.json` of an ablation. By default each domain's size."""


def ablate(asked: Ablate) -> int:
    """Prepare, train, propose, compare, report."""
    from qianwen.runtime.errors import ConfigError
    from qianwen.runtime.log import progress
    from qianwen.train.ablation import MIXTURE, Ablation
    from qianwen.train.ablation_report import write_report
    from qianwen.train.job import Job
    from qianwen.train.proxy_model import prepare

    if asked.mixtures < 8 or asked.tests < 2 or asked.seeds < 1:
        raise ConfigError(tr("an ablation needs at least 8 mixtures, 2 tests and 1 seed"))
    config = _config(asked)
    with Job.start(asked.name, "ablate", config) as job:
        path = job.path
        prepare(path, config)
        ablation = Ablation(path, config)
        first = ablation.first_proxies()
        missing = sum(proxy.key not in ablation.rows for proxy in first)
        for _ in progress(ablation.train(first, asked.workers), missing, tr("training proxies")):
            pass
        law = ablation.propose()
        last = ablation.last_proxies(ablation.proposal())
        missing = sum(proxy.key not in ablation.rows for proxy in last)
        for _ in progress(ablation.train(last, asked.workers), missing, tr("comparing mixtures")):
            pass
        write_report(ablation, law)
    _say(law, ablation.compared())
    command = f"qianwen data mix {asked.inputs} mixture --weights {path / 'law.json'}"
    console.print(tr("proposed: {path}, report: {report}", path=path / MIXTURE, report=path / "report.html"))
    console.print(tr("next: {command}", command=command))
    return 0


def _config(asked: Ablate) -> Any:
    from qianwen.model.config import QwenConfig
    from qianwen.train.loop import LoopConfig
    from qianwen.train.proxy_model import AblationConfig

    model = QwenConfig(
        vocab_size=asked.vocab_size,
        hidden_size=asked.hidden_size,
        intermediate_size=3 * asked.hidden_size,
        num_hidden_layers=asked.layers,
        num_attention_heads=max(1, asked.hidden_size // 64),
        max_position_embeddings=256,
        tie_word_embeddings=True,
    )
    loop = LoopConfig(
        steps=asked.steps, sequences_per_step=16, micro_batch_size=16, lr=2e-3, warmup_steps=asked.steps // 10,
        min_lr_ratio=0.0,
    )  # fmt: skip
    return AblationConfig(
        inputs=asked.inputs, by=asked.by, held_out=asked.held_out, vocab_size=asked.vocab_size, model=model,
        loop=loop, num_fit=asked.mixtures, num_test=asked.tests, seeds=asked.seeds, without=asked.without,
        importance=weights_of(asked.importance), run_tokens=asked.run_tokens, max_epochs=asked.max_epochs,
        seed=asked.seed,
    )  # fmt: skip


def weights_of(given: tuple[str, ...]) -> dict[str, float]:
    """`("code=0.2", "books=0.8")`, or the proposal of one `law.json`, as numbers by domain."""
    from qianwen.runtime.errors import ConfigError

    if len(given) == 1 and given[0].endswith(".json"):
        try:
            return dict(json.loads(Path(given[0]).read_text(encoding="utf-8"))["proposal"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(tr("{path} contains no proposed mixture: {error}", path=given[0], error=error)) from error
    weights = {}
    for one in given:
        name, _, value = one.partition("=")
        try:
            weights[name] = float(value)
        except ValueError:
            raise ConfigError(tr("{value!r} is not a weight: write name=number", value=one)) from None
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
    for name, found in compared.items():
        console.print(f"{name:<26} " + "  ".join(f"{loss:.4f}" for loss in found["by_seed"]))


def mix(asked: Mix) -> int:
    """Tokenise each domain, then put the weights beside."""
    from qianwen.data.documents.readers import readable_documents
    from qianwen.data.tokens.mixture import normalised, write_domains, write_weights
    from qianwen.runtime.log import progress
    from qianwen.tokenizer.tokenizer import Tokenizer

    output, weights = Path(asked.output), weights_of(asked.weights)
    tokenizer = Tokenizer.qwen() if asked.vocabulary == "qwen" else Tokenizer.from_folder(asked.vocabulary)
    found = progress(readable_documents(asked.inputs), None, tr("tokenising"))
    tokens = write_domains(found, output, asked.by, tokenizer.encode_batch, tokenizer.eod_id)
    shares = normalised(weights or tokens, tokens)
    write_weights(output, shares, output)
    total = sum(tokens.values())
    console.print(f"{tr('domain'):<24} {tr('tokens'):>16} {tr('natural'):>9} {tr('weight'):>9}")
    for name, size in tokens.items():
        console.print(f"{name:<24} {size:>16,} {size / total:>9.3f} {shares[name]:>9.3f}")
    console.print(tr("next: {command}", command=f"qianwen pretrain tiny --name mine --data {output}"))
    return 0
