"""`qianwen data reject MODEL --problems FILE`: a model's own right solutions as mathematics to train on."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from qianwen.runtime.log import console
from qianwen.runtime.translation import tr


@dataclass(frozen=True)
class Reject:
    """Sample solutions of problems, keep the distinct right ones, report the yield; run again, it goes on."""

    model: tyro.conf.Positional[str]
    """Folder, GGUF file, run or hub id."""
    problems: str
    """JSON lines (.gz, .zst) with `question`, and `answer`: a worked solution (GSM8K's `#### 72`) or a number."""
    name: str = "rft"
    """Of the run folder."""
    samples: int = 8
    """Solutions drawn of each problem."""
    limit: int = 0
    """Problems, from the first; 0: all."""
    temperature: float = 0.7
    max_tokens: int = 320
    licence: str = "unknown"
    """Of the problems (SPDX): the kept solutions carry it."""
    seed: int = 0
    concurrency: int = 16
    """Solutions in the making at once."""


def reject(asked: Reject) -> int:
    """Draw what is missing, then keep and count."""
    from qianwen.align.rejection import PATHS, RejectionConfig, draw, keep, missing, read_problems
    from qianwen.engine.llm import LLM
    from qianwen.engine.llm_engine import EngineConfig
    from qianwen.runtime.errors import ConfigError
    from qianwen.runtime.log import progress
    from qianwen.train.job import Job

    if min(asked.samples, asked.concurrency) < 1:
        raise ConfigError(tr("--samples and --concurrency must be at least 1"))
    config = RejectionConfig(
        model=Path(asked.model).name, problems=asked.problems, samples=asked.samples, limit=asked.limit,
        temperature=asked.temperature, max_tokens=asked.max_tokens, concurrency=asked.concurrency,
        licence=asked.licence, seed=asked.seed,
    )  # fmt: skip
    problems = read_problems(config)
    with Job.start(asked.name, "reject", config) as job:
        model = LLM.load(asked.model, config=EngineConfig(max_num_seqs=asked.concurrency))
        wanted = missing(problems, config, job.folder)
        for _ in progress(draw(model, problems, wanted, config, job.folder), len(wanted), tr("sampling")):
            pass
        counts = keep(problems, config, job.folder)
    for name, count in counts.items():
        console.print(f"{name:>26}  {count:,.3g}" if isinstance(count, float) else f"{name:>26}  {count:,}")
    console.print(tr("written: {path}", path=job.path / PATHS))
    return 0
