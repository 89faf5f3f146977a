"""`qianwen data select FILE --budget N`: choose the most useful dialogues of a file, by tags or by clusters."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

if TYPE_CHECKING:
    from qianwen.align.choosing.selection import Candidate, Selection
    from qianwen.align.records import Dialogue

EMBEDDED_AT_ONCE = 64
EMBEDDED_TOKENS = 512  # of a question; its subject is at the beginning


@dataclass(frozen=True)
class Select:
    """Choose complex and diverse dialogues for a budget, without near duplicates. The model writes tags for each
    question, or its embeddings are clustered. The same command continues interrupted tagging."""

    file: tyro.conf.Positional[str]
    """Dialogues as `qianwen sft` reads them."""
    model: str
    """The model: a folder, GGUF file, run name or hub id; with --url the name that the server knows."""
    budget: int
    """Number of dialogues to choose."""
    out: str
    """Output file: JSON lines. The tags of all questions are written beside it, into OUT.tags.jsonl."""
    by: Literal["tags", "clusters"] = "tags"
    """tags: written by a chat model; clusters: of the embeddings of any model that runs here, much faster."""
    url: str = ""
    """Base URL of an OpenAI-compatible server. The API key is read from the environment variable QIANWEN_KEY."""
    min_rows: int = 2
    """Tags that fewer dialogues have are removed."""
    clusters: int = 100
    """Number of clusters, with --by clusters."""
    seed: int = 0
    """Random seed of the clusters, and of the order of equally complex dialogues."""
    concurrency: int = 16
    """Requests at the same time."""


def select(options: Select) -> int:
    """Tag or cluster, choose, write, and print the counts."""
    from qianwen.align.choosing.selection import select as chosen_rows
    from qianwen.align.dialogues import records_and_dialogues
    from qianwen.runtime.errors import ConfigError
    from qianwen.runtime.files import write_jsonl

    if min(options.budget, options.min_rows, options.clusters, options.concurrency) < 1:
        raise ConfigError(tr("--budget, --min-rows, --clusters and --concurrency must be at least 1"))
    if options.by == "clusters" and options.url:
        raise ConfigError(tr("embeddings need a model that runs here; use --by tags with --url"))
    if Path(options.out).resolve() == Path(options.file).resolve():
        raise ConfigError(tr("--out is the input file {path}; choose another name", path=options.out))
    rows = list(records_and_dialogues(options.file))
    dialogues = [dialogue for _, dialogue in rows]
    candidates = (_tagged if options.by == "tags" else _clustered)(options, dialogues)
    selection = chosen_rows(candidates, options.budget, seed=options.seed)
    write_jsonl(options.out, (rows[index][0] for index in selection.chosen))
    _report(options, selection, len(rows))
    return 0


def _tagged(options: Select, dialogues: "Sequence[Dialogue]") -> "list[Candidate]":
    from qianwen.align.choosing.selection import question_of, tag_candidates
    from qianwen.align.choosing.tags import missing_questions, read_tags, without_rare, write_tags
    from qianwen.cli.chat_model import opened_chat_model
    from qianwen.runtime.log import progress

    path = Path(f"{options.out}.tags.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    questions = [question_of(dialogue) for dialogue in dialogues]
    name = hashlib.sha256(f"{options.url} {options.model}".encode()).hexdigest()
    missing = missing_questions(path, questions, name)
    if missing:
        with opened_chat_model(options.model, options.url, options.concurrency) as model:
            written = write_tags(model, path, missing, name, options.concurrency)
            for _ in progress(written, len(missing), tr("tagging")):
                pass
    return tag_candidates(dialogues, without_rare(read_tags(path, questions, name), options.min_rows))


def _clustered(options: Select, dialogues: "Sequence[Dialogue]") -> "list[Candidate]":
    import numpy as np

    from qianwen.align.choosing.clusters import clusters
    from qianwen.align.choosing.selection import cluster_candidates, question_of
    from qianwen.engine.llm import LLM
    from qianwen.engine.llm_engine import EngineConfig
    from qianwen.engine.scoring import embed
    from qianwen.runtime.log import progress

    llm = LLM.load(options.model, config=EngineConfig(max_num_seqs=options.concurrency))
    longest = min(EMBEDDED_TOKENS, llm.engine.max_model_len - 1)
    texts = [llm.tokenizer.encode(question_of(each))[:longest] or [llm.tokenizer.eod_id] for each in dialogues]
    parts = []
    starts = range(0, len(texts), EMBEDDED_AT_ONCE)
    for start in progress(starts, len(starts), tr("embedding")):
        parts.append(embed(llm, texts[start : start + EMBEDDED_AT_ONCE], "mean"))
    return cluster_candidates(dialogues, clusters(np.concatenate(parts), options.clusters, options.seed).tolist())


def _report(options: Select, selection: "Selection", num_rows: int) -> None:
    message = "{chosen:,} of {all:,} dialogue{all:plural} chosen in {rounds:,} round{rounds:plural}"
    console.print(tr(message, chosen=len(selection.chosen), all=num_rows, rounds=selection.rounds))
    names = {"tags": tr("tags"), "clusters": tr("clusters")}
    counts = {
        tr("{name} covered, of {all:,}", name=names[options.by], all=selection.tags): selection.covered,
        tr("near duplicates of chosen ones"): selection.near_duplicates,
        tr("without a tag that {count:,} dialogue{count:plural} have", count=options.min_rows): selection.untagged,
        tr("beyond the budget"): selection.beyond_budget,
    }
    for name, count in counts.items():
        if count:
            console.print(f"{count:>10,}  {name}", markup=False)
    console.print(tr("written: {path}", path=options.out), markup=False)
