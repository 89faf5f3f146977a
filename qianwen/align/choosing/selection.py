"""Rows for a budget: the most complex first, each only if it adds something new (InsTag; Lu et al., 2023).

    order     by complexity, most complex first; equal ones in a random order
    round     go through the order; take a row if it has a tag that no row of this round has
    rounds    repeat over the rows that are left, until the budget is full

The complexity of a tagged row is its number of tags; of a row of a cluster, its number of turns, then its length. A row
that is nearly the same as a chosen one is left out for good.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from qianwen.align.near_duplicates import NearDuplicates
from qianwen.align.records import Dialogue


@dataclass(frozen=True)
class Candidate:
    """A row that may be chosen. `tags` are its tags, or the name of its cluster."""

    text: str  # compared to find near duplicates
    tags: frozenset[str]
    complexity: tuple[int, ...]


@dataclass
class Selection:
    """The indices of the chosen rows in the order of the file, and why the others are not chosen."""

    chosen: list[int] = field(default_factory=list)
    near_duplicates: int = 0
    untagged: int = 0
    beyond_budget: int = 0
    rounds: int = 0
    covered: int = 0  # different tags of the chosen rows
    tags: int = 0  # of all rows


def select(candidates: Sequence[Candidate], budget: int, *, seed: int = 0) -> Selection:
    """Up to `budget` of the candidates. The same seed gives the same rows."""
    order = list(range(len(candidates)))
    random.Random(seed).shuffle(order)
    order.sort(key=lambda index: candidates[index].complexity, reverse=True)
    left = [index for index in order if candidates[index].tags]
    result = Selection(untagged=len(order) - len(left))
    seen = NearDuplicates()
    while left and len(result.chosen) < budget:
        result.rounds += 1
        covered: set[str] = set()
        later = []
        for place, index in enumerate(left):
            if len(result.chosen) == budget:
                later += left[place:]
                break
            if candidates[index].tags <= covered:
                later.append(index)
            elif seen.add(candidates[index].text):
                result.near_duplicates += 1
            else:
                covered |= candidates[index].tags
                result.chosen.append(index)
        left = later
    result.beyond_budget = len(left)
    result.chosen.sort()
    result.covered = len({tag for index in result.chosen for tag in candidates[index].tags})
    result.tags = len({tag for each in candidates for tag in each.tags})
    return result


def question_of(dialogue: Dialogue) -> str:
    """What the user writes in all turns: a dialogue is chosen for its questions."""
    return "\n".join(message.text for message in dialogue.messages if message.role == "user")


def tag_candidates(dialogues: Sequence[Dialogue], tags: Sequence[frozenset[str]]) -> list[Candidate]:
    """A row is as complex as it has tags."""
    pairs = zip(dialogues, tags, strict=True)
    return [Candidate(question_of(dialogue), row, (len(row),)) for dialogue, row in pairs]


def cluster_candidates(dialogues: Sequence[Dialogue], clusters: Sequence[int]) -> list[Candidate]:
    """A row is as complex as it has turns; of two with as many turns, the longer one."""
    candidates = []
    for dialogue, cluster in zip(dialogues, clusters, strict=True):
        size = sum(len(message.text) for message in dialogue.messages)
        complexity = (len(dialogue.messages), size)
        candidates.append(Candidate(question_of(dialogue), frozenset({str(cluster)}), complexity))
    return candidates
