"""Our engine as a model of lm-evaluation-harness, so that all of its tasks run (extra `lm-eval`).

>>> import lm_eval
>>> from qianwen import LLM
>>> from qianwen.eval.lm_eval_adapter import harness_model
>>> lm_eval.simple_evaluate(model=harness_model(LLM.load("MODEL")), tasks=["hellaswag"])

    loglikelihood           one request for all continuations of a context that are one token; the others share the
                            cached context. Requests are sorted, so that equal beginnings are neighbours
    loglikelihood_rolling   documents in windows of the model's length, each token once
    generate_until          all requests are open at the same time, and the engine batches them continuously

What lm-eval decides is left to it: where a context ends, how windows are cut, what the sampling names mean. As with its
own models a context that is too long loses its beginning, and each call logs how many did. Texts may contain special
tokens, because lm-eval inserts rendered chat templates as text; do not give it texts of strangers.

lm-eval is imported here, so this module is imported only by those who use it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from qianwen.chat.messages import from_openai
from qianwen.chat.render import render
from qianwen.chat.templates.choose import template_source
from qianwen.engine.llm import LLM
from qianwen.engine.sampling_params import SamplingParams
from qianwen.engine.scoring import loglikelihoods
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.log import ProgressBar, console, progress
from qianwen.runtime.translation import tr

MAX_NEW_TOKENS = 256  # of an answer, if the task sets no limit; lm-eval's own default
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")  # named as in `SamplingParams`
READ = ("do_sample", "until", "max_gen_toks")  # read here, or already part of the temperature
OPEN = 512  # requests open at the same time

Pair = tuple[list[int], list[int]]  # the ids of a context and of its continuation
Keyed = tuple[Any, list[int], list[int]]  # the same with the key of lm-eval's cache
Scored = tuple[float, bool]  # the log-probability of a continuation, and whether greedy decoding gives it


def harness_model(llm: LLM) -> "HarnessModel":
    """`llm` as a model that `lm_eval.simple_evaluate` accepts."""
    return HarnessModel(llm)


def run_harness(llm: LLM, tasks: Sequence[str], *, folder: str | None = None, **options: Any) -> dict[str, Any]:
    """The results of lm-eval's own tasks and of those defined by YAML files in `folder`.

    `options` are those of `lm_eval.simple_evaluate`. ConfigError for a task that does not exist.
    """
    manager = TaskManager(include_path=folder)
    if unknown := [name for name in tasks if not manager.match_tasks([name])]:
        raise ConfigError(tr("lm-eval has no task {name}; `lm-eval ls tasks` lists them", name=unknown[0]))
    results = simple_evaluate(model=harness_model(llm), tasks=list(tasks), task_manager=manager, **options)
    assert results is not None  # only a process of several has none
    return results


class HarnessModel(TemplateLM):
    """`llm` behind lm-eval's interface; the methods are those of `lm_eval.api.model.LM`."""

    def __init__(self, llm: LLM) -> None:
        super().__init__()
        self.llm = llm
        self.max_length = llm.engine.max_model_len - 1  # of the input: the last token of a continuation is not read
        self.max_gen_toks = MAX_NEW_TOKENS
        self.num_cut = 0  # contexts that lost their beginning, in all calls
        names = sorted(llm.tokenizer.special_tokens, key=len, reverse=True)
        self._special = re.compile("(" + "|".join(map(re.escape, names)) + ")")

    @property
    def eot_token_id(self) -> int:
        return self.llm.tokenizer.eod_id

    @property
    def tokenizer_name(self) -> str:
        """Part of the key of lm-eval's cache of requests."""
        return re.sub(r"[^\w.-]", "_", self.llm.name)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_options: Any) -> list[int]:
        """The ids of a text, in which the names of special tokens are those tokens. No token is added."""
        ids: list[int] = []
        for part in self._special.split(string):
            special = self.llm.tokenizer.special_tokens.get(part)
            ids += self.llm.tokenizer.encode(part) if special is None else [special]
        return ids

    # ---- likelihoods ------------------------------------------------------------------------------------------------

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Scored]:
        """One progress bar instead of lm-eval's two."""
        return super().loglikelihood(requests, disable_tqdm=True)

    def _loglikelihood_tokens(self, requests: Sequence[Keyed], **_options: Any) -> list[Scored]:
        pairs = self._cut([(context, continuation) for _, context, continuation in requests])
        order = sorted(range(len(pairs)), key=lambda number: pairs[number])
        scored: dict[int, Scored] = {}
        with ProgressBar("lm-eval", len(pairs)) as bar:
            for start in range(0, len(order), OPEN):
                scored |= self._score({number: pairs[number] for number in order[start : start + OPEN]})
                bar.update(len(order[start : start + OPEN]))
        for number, (key, _, _) in enumerate(requests):
            if key is not None:
                self.cache_hook.add_partial("loglikelihood", key, scored[number])
        return [scored[number] for number in range(len(requests))]

    def _score(self, pairs: Mapping[int, Pair]) -> Iterator[tuple[int, Scored]]:
        """Each number with the score of its pair; all requests are open at the same time."""
        last_tokens: dict[tuple[int, ...], list[int]] = {}  # what comes before a last token → the numbers
        longer = {}
        for number, (context, continuation) in pairs.items():
            if len(continuation) == 1:
                last_tokens.setdefault(tuple(context), []).append(number)
            else:
                longer[number] = (context, continuation)
        streams = []
        for context, numbers in last_tokens.items():
            tokens = tuple(pairs[number][1][0] for number in numbers)
            params = SamplingParams(max_tokens=1, temperature=0, logprob_token_ids=tokens)
            streams.append((numbers, self.llm.stream(context, params)))
        for number, likelihood in zip(longer, loglikelihoods(self.llm, list(longer.values())), strict=True):
            yield number, (likelihood.total, likelihood.is_greedy)
        for numbers, stream in streams:
            best = stream.result().outputs[0].logprobs[0]
            for number, (token, logprob) in zip(numbers, best.top, strict=True):
                yield number, (float(logprob), token == best.token)

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        windows = [
            [
                (None, *make_disjoint_window(window))
                for window in get_rolling_token_windows(
                    self.tok_encode(request.args[0]), self.prefix_token_id, self.max_length, context_len=1
                )
            ]
            for request in requests
        ]
        scored = iter(self._loglikelihood_tokens([window for each in windows for window in each]))
        totals = [sum(next(scored)[0] for _ in each) for each in windows]
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def _cut(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Pairs that the model can read. ConfigError for a continuation that is too long without any context."""
        cut = []
        for context, continuation in pairs:
            if len(continuation) > self.max_length:
                message = "a continuation of {count:,} tokens does not fit the model's context of {most:,}"
                raise ConfigError(tr(message, count=len(continuation), most=self.max_length))
            ids = [*context, *continuation][-(self.max_length + 1) :]
            cut.append((ids[: -len(continuation)], continuation))
        self._report_cut(sum(len(new) < len(old) for (new, _), (old, _) in zip(cut, pairs, strict=True)), len(pairs))
        return cut

    def _report_cut(self, count: int, total: int) -> None:
        self.num_cut += count
        if count:
            message = "lm-eval: {count:,} of {total:,} contexts lost their beginning; the model reads {most:,} tokens"
            console.print(tr(message, count=count, total=total, most=self.max_length), style="yellow")

    # ---- texts ------------------------------------------------------------------------------------------------------

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        prompts, params = [], []
        for request in requests:
            context, options = request.args
            params.append(self._params(options))
            prompts.append(self.tok_encode(context))
        kept = [ids[-(self.max_length - (each.max_tokens or 0)) :] for ids, each in zip(prompts, params, strict=True)]
        self._report_cut(sum(len(new) < len(old) for new, old in zip(kept, prompts, strict=True)), len(prompts))
        streams = [self.llm.stream(ids, each) for ids, each in zip(kept, params, strict=True)]
        texts = [stream.result().text for stream in progress(streams, len(streams), "lm-eval")]
        for request, text in zip(requests, texts, strict=True):
            self.cache_hook.add_partial("generate_until", request.args, text)
        return texts

    def _params(self, options: Mapping[str, Any]) -> SamplingParams:
        """lm-eval's options of an answer. ConfigError for one that our engine does not have."""
        given = dict(normalize_gen_kwargs(dict(options), self.max_gen_toks))
        if unknown := sorted(given.keys() - {*SAMPLING, *READ}):
            message = "the task sets {name}, which this engine does not have; it has {known}"
            raise ConfigError(tr(message, name=unknown[0], known=", ".join(SAMPLING)))
        max_tokens = int(given["max_gen_toks"])
        if max_tokens >= self.max_length:
            message = "the task asks for {count:,} new tokens, but the model's context has {most:,}"
            raise ConfigError(tr(message, count=max_tokens, most=self.max_length))
        until = given.get("until") or []
        stop = tuple(text for text in ([until] if isinstance(until, str) else until) if text)
        chosen: dict[str, Any] = {"temperature": 0.0} | {name: given[name] for name in SAMPLING if name in given}
        return SamplingParams(max_tokens=max_tokens, stop=stop, **chosen)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as text. Without a generation prompt the last message is one that the model continues."""
        messages = [from_openai(message) for message in chat_history]
        rendered = render(messages, self.llm.tokenizer, add_generation_prompt=add_generation_prompt)
        text = self.llm.tokenizer.decode(rendered.ids)
        if add_generation_prompt:
            return text
        last = messages[-1].text.strip()
        return text[: text.rindex(last) + len(last)]

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template's source, which lm-eval writes into its results."""
        source = template_source(self.llm.tokenizer) if chat_template else None
        return source.text if source else None
