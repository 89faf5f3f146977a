"""The rotary positions in `config.json`: `rope_scaling` and `rope_parameters` ↔ the fields of `QwenConfig`.

    rope_scaling       older files: the type under `type` or `rope_type`, with the numbers of this type
    rope_parameters    transformers 5: the same, with rope_theta

We write `rope_scaling` with `rope_type`, which transformers 4 and 5 and vLLM read. Types are default, linear, dynamic,
yarn and llama3, with the formulas of transformers. Everything else is an error, because the weights would run but give
wrong text. Which texts a scaling applies to is in `rope_scaling.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from qianwen.checkpoints.rope_scaling import dual_chunk_len, scaling_fields
from qianwen.model.config import QwenConfig
from qianwen.model.rope_state import RopeState
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

ORIGINAL = "original_max_position_embeddings"
PLAIN = ("default", "mrope")  # mrope: three positions per token, which are equal in text
TYPES = ("default", "linear", "dynamic", "yarn", "llama3")
# Numbers of all types. transformers ignores those that belong to another type, and so do we.
KNOWN = {
    *("type", "rope_type", "rope_theta", "partial_rotary_factor", "mrope_section", "factor", ORIGINAL, "finetuned"),
    *("attention_factor", "attn_factor", "mscale", "mscale_all_dim", "beta_fast", "beta_slow", "truncate"),
    *("low_freq_factor", "high_freq_factor", "extrapolation_factor"),
}


def rope_fields(hf: Mapping[str, Any], model_type: str) -> dict[str, Any]:
    """The fields of a `QwenConfig` that its rope scaling gives, and the length that dual chunk attention leaves."""
    claimed = hf.get("max_position_embeddings") or QwenConfig.max_position_embeddings
    if type(claimed) is not int:
        raise ConfigError(tr("{field} = {value} is not a valid value", field="max_position_embeddings", value=claimed))
    scaling, is_trained = _scaling(hf, claimed)
    if scaling.method != "none" and model_type == "qwen":
        raise ConfigError(
            tr("Qwen v1 models have no rope scaling, but config.json has {method}", method=scaling.method)
        )
    fields: dict[str, Any] = scaling_fields(scaling, claimed, model_type, is_trained=is_trained)
    if fields and hf.get("scaling_from") is not None:  # a file of ours: it has all lengths
        fields = {"rope_scaling": scaling}
    limit = dual_chunk_len(hf)
    if limit is not None:
        fields["max_position_embeddings"] = min(limit, fields.get("max_position_embeddings", claimed))
    return fields


def rope_theta_fields(hf: Mapping[str, Any]) -> dict[str, Any]:
    """rope_theta and partial_rotary_factor, as far as they are in `rope_parameters` or `rope_scaling`."""
    given = [hf[field] for field in ("rope_parameters", "rope_scaling") if hf.get(field)]
    names = ("rope_theta", "partial_rotary_factor")
    return {name: inner[name] for inner in given for name in names if inner.get(name) is not None}


def rope_to_hf(config: QwenConfig) -> dict[str, Any]:
    """The keys of `config.json` for the rope scaling; empty without one."""
    scaling = config.rope_scaling
    if scaling.method == "none":
        return {}
    kind = {"dynamic_ntk": "dynamic"}.get(scaling.method, scaling.method)
    names = {
        "yarn": ("beta_fast", "beta_slow", "truncate"),
        "llama3": ("low_freq_factor", "high_freq_factor"),
    }.get(kind, ())
    values = asdict(scaling)
    written = {"rope_type": kind, "factor": scaling.factor} | {name: values[name] for name in names}
    if scaling.original_len and kind != "dynamic":
        written[ORIGINAL] = scaling.original_len
    if scaling.attention_factor and kind == "yarn":  # transformers reads the first key, vLLM the second
        written["attention_factor"] = scaling.attention_factor
        written["attn_factor"] = scaling.attention_factor / yarn_temperature(scaling.factor)
    ours = {"scaling_from": config.scaling_from}
    if kind == "dynamic":  # its formula is in terms of this length
        ours["max_position_embeddings"] = scaling.original_len
    return {"rope_scaling": written, **ours}


def yarn_temperature(factor: float, mscale: float = 1.0) -> float:
    """YaRN's factor of queries and keys if the file gives none."""
    return 0.1 * mscale * math.log(factor) + 1 if factor > 1 else 1.0


def attention_factor(value: float, factor: float) -> float:
    """`value` as the field of a `RopeState`, in the digits of fp32; 0 if it is what the factor gives anyway."""
    return 0.0 if math.isclose(value, yarn_temperature(factor), rel_tol=1e-7) else float(f"{value:.7g}")


@dataclass(frozen=True)
class _Given:
    """The contents of `rope_scaling` or `rope_parameters`, by the name of the field."""

    field: str
    values: Mapping[str, Any]

    def number(self, name: str) -> float | None:
        """A number that is not negative; None if it is missing or null."""
        value = self.values.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0):
            raise self.invalid(name)
        return value

    def flag(self, name: str) -> bool | None:
        value = self.values.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.invalid(name)
        return value

    def invalid(self, name: str) -> ConfigError:
        field = f"{self.field}.{name}"
        return ConfigError(tr("{field} = {value} is not a valid value", field=field, value=repr(self.values[name])))


def _scaling(hf: Mapping[str, Any], claimed_len: int) -> tuple[RopeState, bool | None]:
    """The state, and whether the model was trained with it if the file says so."""
    given = [_given(field, hf[field]) for field in ("rope_scaling", "rope_parameters") if hf.get(field)]
    states = {(_state(each, hf, claimed_len), each.flag("finetuned")) for each in given}
    if len(states) > 1:
        message = "config.json has rope_scaling and rope_parameters with different contents; remove the wrong one"
        raise ConfigError(tr(message))
    return next(iter(states), (RopeState(), None))


def _given(field: str, values: Any) -> _Given:
    if not isinstance(values, Mapping):
        raise _refusal(field, values)
    nested = [name for name, value in values.items() if isinstance(value, Mapping)]
    if nested:
        message = (
            "{field} has separate rotations for {names}, but here all layers share one, which would give wrong text; "
            "this model cannot be used"
        )
        raise ConfigError(tr(message, field=field, names=", ".join(nested)))
    return _Given(field, values)


def _kind(given: _Given) -> str:
    """The type of a scaling, one of `TYPES`. ConfigError if it is unknown or the network cannot compute it."""
    kind = given.values.get("rope_type") or given.values.get("type")
    if kind in ("longrope", "su"):
        message = (
            "{field}: LongRoPE ({kind}) divides each frequency by a factor of its own, in short texts too; without it "
            "every text would be wrong. This model cannot be used"
        )
        raise ConfigError(tr(message, field=given.field, kind=kind))
    if not kind:
        numbers = {name for name, value in given.values.items() if value is not None}
        if numbers - {"rope_theta", "partial_rotary_factor", "factor"} or given.number("factor") not in (None, 1):
            message = (
                "{field} = {value} has no type. Add rope_type (linear, dynamic, yarn or llama3), or remove the field"
            )
            raise ConfigError(tr(message, field=given.field, value=dict(given.values)))
        return "default"
    if kind in PLAIN:
        return "default"
    if not isinstance(kind, str) or kind not in TYPES:
        raise _refusal(given.field, kind)
    if unknown := sorted(set(given.values) - KNOWN):
        message = "{field} of type {kind} has keys that are not known here: {names}; remove them if they have no effect"
        raise ConfigError(tr(message, field=given.field, kind=kind, names=", ".join(unknown)))
    return kind


def _state(given: _Given, hf: Mapping[str, Any], claimed_len: int) -> RopeState:
    kind = _kind(given)
    if kind == "default":
        return RopeState()
    # The key beside rope_scaling has priority, as in transformers.
    original = _Given("config.json", hf).number(ORIGINAL) or given.number(ORIGINAL)
    if kind == "dynamic" or not original:
        original = 0 if kind == "linear" else claimed_len
    if original % 1:
        raise given.invalid(ORIGINAL)
    values: dict[str, Any] = {"factor": given.number("factor")}
    if kind == "llama3":
        values |= {name: given.number(name) for name in ("low_freq_factor", "high_freq_factor")}
    if kind == "yarn" and values["factor"] is None:  # as in transformers: null is the ratio of the lengths
        values["factor"] = claimed_len / original
    missing = [name for name, value in values.items() if value is None]
    if missing:
        message = "{field} of type {kind} has no {names}; add it, or fetch the model again"
        raise ConfigError(tr(message, field=given.field, kind=kind, names=", ".join(missing)))
    if values["factor"] == 1 and kind != "dynamic":
        return RopeState()
    if kind == "yarn":
        values |= _yarn(given, values["factor"])
    method: Any = "dynamic_ntk" if kind == "dynamic" else kind
    try:
        return RopeState(method=method, original_len=int(original), **values)
    except ConfigError as error:
        raise ConfigError(f"{given.field}: {error}") from error


def _yarn(given: _Given, factor: Any) -> dict[str, Any]:
    """The numbers that only YaRN has, those that are given."""
    if given.number("extrapolation_factor") not in (None, 1):
        raise _refusal(f"{given.field}.extrapolation_factor", given.number("extrapolation_factor"), "1")
    truncate = given.flag("truncate")
    values: dict[str, Any] = {} if truncate is None else {"truncate": truncate}
    values |= {name: value for name in ("beta_fast", "beta_slow") if (value := given.number(name))}
    temperature, relative = given.number("attention_factor"), given.number("attn_factor")
    scale, scale_all = given.number("mscale"), given.number("mscale_all_dim")
    if temperature is None and relative is not None:
        # vLLM's key, relative to the usual temperature. DeepSeek-R1-0528-Qwen3-8B has 0.878, which makes 1 of 1.139.
        temperature = relative * yarn_temperature(factor)
    elif temperature is None and scale and scale_all:
        temperature = yarn_temperature(factor, scale) / yarn_temperature(factor, scale_all)
    if temperature == 0:
        raise ConfigError(
            tr("{field} = {value} is not a valid value", field=f"{given.field}.attention_factor", value=0)
        )
    if temperature is not None:
        values["attention_factor"] = attention_factor(temperature, factor)
    return values


def _refusal(field: str, value: Any, supported: str = ", ".join(TYPES)) -> ConfigError:
    message = "{field} = {value} is not supported; supported: {supported}"
    return ConfigError(tr(message, field=field, value=repr(value), supported=supported))
