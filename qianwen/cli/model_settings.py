"""One line on how a loaded model is used: its context, how it samples, and who recommends that."""

from collections.abc import Mapping
from typing import Any

from qianwen.checkpoints.generation_config import SAMPLING
from qianwen.checkpoints.recommended_sampling import FILES, Recommended
from qianwen.engine.llm import LLM
from qianwen.engine.sampling_params import SamplingParams
from qianwen.runtime.translation import tr

NEUTRAL = SamplingParams()


def settings_line(llm: LLM, chosen: Mapping[str, Any]) -> str:
    """Context and sampling of `llm`; `chosen` are the values that the user gave."""
    params = llm.params(**chosen)
    values = {name: getattr(params, name) for name in SAMPLING if name == "temperature" or is_changed(params, name)}
    sampling = ", ".join(f"{name} {value:g}" for name, value in values.items())
    source = sampling_source(llm.recommended)
    tokens, limits = llm.engine.max_model_len, llm.engine.limits
    context = tr("context {tokens:,} tokens", tokens=tokens)
    if note := limits.note(tokens):
        context = tr("{context} ({note})", context=context, note=note)
    return tr("{context}; {sampling} ({source})", context=context, sampling=sampling, source=source)


def is_changed(params: SamplingParams, name: str) -> bool:
    """Whether a parameter has another value than the neutral one."""
    return getattr(params, name) != getattr(NEUTRAL, name)


def sampling_source(recommended: Recommended) -> str:
    """Who recommends the default sampling of a model."""
    if not recommended.source:
        return tr("no recommendation for this model is known")
    if recommended.source == FILES:
        return tr("recommended by the model's own files")
    return tr("recommended for {family}", family=recommended.source)
