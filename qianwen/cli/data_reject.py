"""`qianwen data reject MODEL --problems FILE`: rejection sampling of a model's own correct solutions to mathematics."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from qianwen.runtime.log import console
from qianwen.runtime.translation import tr


@dataclass(frozen=True)
class Reject:
    """Sample solutions, keep the correct ones without duplicates, report how many. The same command continues an
    interrupted one."""

    model: tyro.conf.Positional[str]
    """The model: a folder, GGUF file, run name or hub id."""
    problems: str
    """JSON lines (.gz, .zst) with `question` and `answer`: a worked solution (as GSM8K, `#### 72`) or a number."""
    name: str = "rft"
    """Name of the run folder."""
    samples: int = 8
    """Solutions sampled per problem."""
    limit: int = 0
    """Use only the first N problems; 0: all."""
    temperature: float = 0.7
    """Sampling temperature."""
    max_tokens: int = 320
    """Maximum length of a solution in tokens."""
    licence: str = "unknown"
    """Licence of the problems (SPDX identifier), written into every kept solution."""
    seed: int = 0
    """Random seed."""
    concurrency: int = 16
    """Solutions sampled at the same time."""


def reject(options: Reject) -> int:
    """Sample the missing solutions, keep the correct ones, print the counts."""
    from qianwen.align.rejection import PATHS, RejectionConfig, draw, missing, read_problems, select
    from qianwen.engine.llm import LLM
    from qianwen.engine.llm_engine import EngineConfig
    from qianwen.runtime.errors import ConfigError
    from qianwen.runtime.log import progress
    from qianwen.train.job import Job

    if min(options.samples, options.concurrency) < 1:
        raise ConfigError(tr("--samples and --concurrency must be at least 1"))
    config = RejectionConfig(
        model=Path(options.model).name, problems=options.problems, samples=options.samples, limit=options.limit,
        temperature=options.temperature, max_tokens=options.max_tokens, concurrency=options.concurrency,
        licence=options.licence, seed=options.seed,
    )  # fmt: skip
    problems = read_problems(config)
    with Job.start(options.name, "reject", config) as job:
        model = LLM.load(options.model, config=EngineConfig(max_num_seqs=options.concurrency))
        samples = missing(problems, config, job.folder)
        for _ in progress(draw(model, problems, samples, config, job.folder), len(samples), tr("sampling")):
            pass
        counts = select(problems, config, job.folder)
    for name, count in counts.items():
        console.print(f"{name:>26}  {count:,.3g}" if isinstance(count, float) else f"{name:>26}  {count:,}")
    console.print(tr("written: {path}", path=job.path / PATHS))
    return 0
