"""Constrained output: an answer that follows a JSON schema, a regular expression, or the format of function calls.

Before each token the grammar determines which tokens may come next, and all others get a score of minus infinity. The
rest is the model's own distribution over valid continuations. `llguidance` (the `[fast]` extra) matches the grammar
against the bytes of the vocabulary; without it, a request with a grammar is rejected.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qianwen.chat.functions import CLOSE, OPEN, FunctionFormat
from qianwen.chat.messages import FunctionSpec
from qianwen.chat.react_prompts import REACT_STYLES
from qianwen.chat.render import ChatFormat
from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLTokenizer

_vocabularies: weakref.WeakKeyDictionary[Tokenizer, LLTokenizer] = weakref.WeakKeyDictionary()


class Matcher:
    """The state of the grammar after the tokens of one answer so far."""

    def __init__(self, vocabulary: LLTokenizer, source: str) -> None:
        from llguidance import LLMatcher

        self._matcher = LLMatcher(vocabulary, source, log_level=0)

    @property
    def is_finished(self) -> bool:
        """Whether only the end token may follow."""
        return self._matcher.is_stopped()

    def mask(self, scores: np.ndarray) -> None:
        """Set the scores [V] of all tokens that cannot come next to minus infinity, in place."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[: len(scores)]
        scores[allowed == 0] = -np.inf

    def accept(self, token: int) -> None:
        """Advance the grammar by a chosen token."""
        self._matcher.consume_token(token)


@dataclass(frozen=True, eq=False)
class Grammar:
    """A validated grammar for one vocabulary. Each answer has its own matcher."""

    vocabulary: LLTokenizer
    source: str

    def matcher(self) -> Matcher:
        """A new matcher at the start of the grammar."""
        return Matcher(self.vocabulary, self.source)


def json_grammar(tokenizer: Tokenizer, schema: dict[str, Any] | None = None) -> Grammar:
    """JSON that satisfies `schema`; without a schema, any JSON object."""
    return _checked(tokenizer, "json", _spaced({"type": "object"} if schema is None else schema))


def regex_grammar(tokenizer: Tokenizer, pattern: str) -> Grammar:
    """Text that fully matches `pattern`."""
    return _checked(tokenizer, "regex", pattern)


def call_grammar(tokenizer: Tokenizer, functions: Sequence[FunctionSpec], style: FunctionFormat) -> Grammar:
    """One call of one of the functions, with arguments that satisfy its schema, in the format that the model uses."""
    if style in REACT_STYLES:
        label = "" if REACT_STYLES[style].prompt_end else '"Thought: "'  # the prompt may end in it
        head, tail = label + r' /[^\n]+/ "\nAction: "', ""
        between = r'"\nAction Input: "'
    elif style == "json":
        head, tail, between = r'"{\"name\": \""', r' "}"', r'"\", \"parameters\": "'
    else:
        is_token = OPEN in tokenizer.special_tokens
        opening, closing = (OPEN, CLOSE) if is_token else (json.dumps(OPEN), json.dumps(CLOSE))
        head, tail = opening + r' "\n{\"name\": \""', r' "}\n" ' + closing
        between = r'"\", \"arguments\": "'
    rules = [f"start: {head} call{tail}", "call: " + " | ".join(f"call_{index}" for index in range(len(functions)))]
    for index, function in enumerate(functions):
        schema = function.parameters if isinstance(function.parameters, dict) else {"type": "object"}
        rules.append(f"call_{index}: {json.dumps(function.name)} {between} %json {json.dumps(_spaced(schema))}")
    return _checked(tokenizer, "lark", "\n".join(rules))


def _spaced(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with spaces where `json.dumps` writes them, because models were trained on its output."""
    whitespace = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    return {**schema, "x-guidance": whitespace}


def _checked(tokenizer: Tokenizer, kind: str, text: Any) -> Grammar:
    try:
        from llguidance import LLMatcher
    except ImportError as error:
        raise RequestError(
            tr("constrained output needs llguidance: pip install 'qianwen[fast]'"), code="not_installed"
        ) from error
    if kind == "json":
        source = LLMatcher.grammar_from_json_schema(text)
    else:
        source = LLMatcher.grammar_from_regex(text) if kind == "regex" else LLMatcher.grammar_from_lark(text)
    vocabulary = _vocabulary(tokenizer)
    problem = LLMatcher.validate_grammar(source, vocabulary)
    if problem:
        raise RequestError(tr("the grammar is not valid: {problem}", problem=problem), param="response_format")
    return Grammar(vocabulary, source)


class _Bytes:
    """Our tokenizer with the interface that llguidance expects."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id, self.bos_token_id = _ends(tokenizer)[0], None
        self.tokens = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
        self.special_token_ids = sorted(tokenizer.special_ids)

    def __call__(self, text: str | bytes) -> list[int]:
        return self._tokenizer.encode(text.decode(errors="replace") if isinstance(text, bytes) else text)


def _vocabulary(tokenizer: Tokenizer) -> LLTokenizer:
    """The vocabulary as a prefix tree, built once for each tokenizer."""
    from llguidance import LLTokenizer, TokenizerWrapper

    if tokenizer not in _vocabularies:
        _vocabularies[tokenizer] = LLTokenizer(TokenizerWrapper(_Bytes(tokenizer)), eos_token=_ends(tokenizer))
    return _vocabularies[tokenizer]


def _ends(tokenizer: Tokenizer) -> list[int]:
    """The tokens that may follow a complete answer: the end of the turn, the end of the text."""
    text_end = tokenizer.special_tokens.get("<|endoftext|>")
    return [*ChatFormat(tokenizer).end_ids, *([] if text_end is None else [text_end])]
