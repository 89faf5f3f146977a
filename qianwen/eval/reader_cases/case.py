"""A reply that is hard to read, and what a careful person reads in it."""

from collections.abc import Callable
from typing import NamedTuple


class Case(NamedTuple):
    """`read` applied to `reply` should give `answer`; an empty answer means that the reply has none."""

    kind: str
    reply: str
    answer: str
    read: Callable[[str], str]
