"""Compression of a model's vocabulary by language: bytes per token of NTREX (Qwen report, section 2.2, figure 3).

    bytes_per_token             of all languages together
    bytes_per_token/fr          of French, by the model's own vocabulary
    bytes_per_token/fr/NAME     by another vocabulary, for comparison

Higher is better: the same text in fewer tokens. Other vocabularies are read from the folder `vocabularies` beside the
data, in any form that `qianwen tokenizer compression` reads; that command draws the figure.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from qianwen.eval.metrics import Share
from qianwen.eval.task import Answer, Score, Task, Tokenize
from qianwen.eval.tasks.text import LINES, hash_of, parts, read_ntrex
from qianwen.tokenizer.compression import CountTokens, open_vocabulary

VOCABULARIES = "vocabularies"  # the folder of other vocabularies


class Compression(Task):
    """Lines of NTREX, each encoded by itself."""

    name = "compression"

    def __init__(self, data: Path) -> None:
        self.data = data

    def examples(self) -> Iterable[Tokenize]:
        for language, lines in self._texts.items():
            for start, part in parts(lines):
                others = {name: count(part) for name, count in self._others.items()}
                facts = {"language": language, "bytes": sum(len(line.encode("utf-8")) for line in part)}
                yield Tokenize(texts=tuple(part), facts=facts | {"others": others}, cluster=str(start))

    def score(self, example: Tokenize, answer: Answer) -> Score:
        num_bytes, language = example.facts["bytes"], example.facts["language"]
        own = Share(num_bytes, answer.num_tokens)
        shares = {"bytes_per_token": own, f"bytes_per_token/{language}": own}
        for name, num_tokens in example.facts["others"].items():
            shares[f"bytes_per_token/{language}/{name}"] = Share(num_bytes, num_tokens)
        return Score(shares=shares)

    def settings(self) -> Mapping[str, Any]:
        settings = {"protocol": "tokenizer", "lines_per_example": LINES, "data_sha256": hash_of(self._texts)}
        return settings | {"vocabularies": sorted(self._others)}

    @cached_property
    def _texts(self) -> dict[str, list[str]]:
        return read_ntrex(self.data)

    @cached_property
    def _others(self) -> dict[str, CountTokens]:
        folder = self.data / VOCABULARIES
        return dict(open_vocabulary(str(path)) for path in sorted(folder.iterdir())) if folder.is_dir() else {}
