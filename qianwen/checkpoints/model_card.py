"""The README.md of an exported model: its shape, data, licence, checks and limits.

Hubs read the block between the dashes; people read the rest. The card states which facts are not known.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from qianwen.checkpoints.hf_config import config_to_hf
from qianwen.checkpoints.load import LoadedModel, OpenModel
from qianwen.checkpoints.parity import Parity
from qianwen.model.config import QwenConfig

CARD = """\
---
license: {license_tag}
library_name: transformers
pipeline_tag: text-generation
language: [zh, en]
---
# {name}

A {kind} language model of the Qwen family: {num_layers} layers, hidden size {hidden_size}, {num_heads} attention heads
({num_kv_heads} for keys and values), {vocab_size:,} vocabulary rows. Exported by `qianwen export` from `{source}`
as {format}.

## Data

{data}

## Licence

{license}

## Run it

```
{command}
```

## Checked

The files in this folder were read back and compared with {reference} on {num_prompts} short prompts: {parity}.
{details}
## Limits

{limits}

The model can be wrong, biased or offensive, and it may repeat its training data. If you deploy it, test it for your
purpose first; you are responsible for its use.
"""


EXACT = "The conversion did not change the most likely next token of any prompt."
LOSS = "The most likely next token is another one after {changed} of the {count} prompts: this is the measured loss."
QUALITY = "This compares the copy with its source. It does not measure the quality of either."
MERGED = "An adapter was merged into its base model in fp32, which changed the logits by {error:.1e} (relative)."
BASE = "Part of the difference was there before the export: the base weights used here, with the adapter: {parity}."


@dataclass(frozen=True)
class Origin:
    """Facts about the origin of a model for its card."""

    source: str
    license: str = ""  # an SPDX name or a text; empty if unknown
    data: str = ""


@dataclass(frozen=True)
class Checks:
    """What was measured on the files: their comparison with `reference` (in words), and their size.

    `merge_error` is the relative change of the logits when an adapter was merged; None: there was no adapter. `of_base`
    compares base and adapter as they were loaded with the recorded model.
    """

    parity: Parity
    reference: str = "the source"
    merge_error: float | None = None
    of_base: Parity | None = None
    bits_per_weight: float | None = None


def model_card(model: LoadedModel | OpenModel, origin: Origin, checks: Checks, *, format: str, command: str) -> str:
    """The text of the card. Only the name, the config and `chat` of `model` are used."""
    config = model.config
    return CARD.format(
        name=model.name,
        kind="chat" if model.chat else "base",
        num_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        vocab_size=config.vocab_size,
        source=origin.source,
        format=format,
        data=origin.data or "Not recorded. See the source of the weights.",
        license=origin.license or "Not recorded. The licence of the source weights applies; check it before sharing.",
        license_tag=origin.license.lower() if origin.license and " " not in origin.license else "other",
        command=command,
        reference=checks.reference,
        num_prompts=checks.parity.num_prompts,
        parity=checks.parity,
        details="\n".join(_details(checks)),
        limits=_limits(config, format, checks),
    )


def _details(checks: Checks) -> Iterator[str]:
    parity = checks.parity
    changed = round((1 - parity.top1_agreement) * parity.num_prompts)
    yield LOSS.format(changed=changed, count=parity.num_prompts) if changed else EXACT
    if checks.merge_error is not None:
        yield MERGED.format(error=checks.merge_error)
    if checks.of_base is not None and checks.of_base.top1_agreement < 1:
        yield BASE.format(parity=checks.of_base)
    yield QUALITY


def own_methods(config: QwenConfig, format: str) -> tuple[str, ...]:
    """The long-context methods of a model that a copy in `format` has for this program alone.

    Their keys are in `config.json`, and other programs ignore them; GGUF has no keys for them.
    """
    has_windows = any(config.layer_windows) and (_is_gguf(format) or "layer_windows" in config_to_hf(config))
    methods = {
        "dynamic NTK": config.use_dynamic_ntk,
        "LogN scaling": config.use_logn_attn,
        "attention windows": has_windows,
        "dynamic rope scaling": config.rope_scaling.method == "dynamic_ntk" and _is_gguf(format),
    }
    return tuple(name for name, is_used in methods.items() if is_used)


def length_elsewhere(config: QwenConfig, format: str) -> int:
    """The longest input in tokens that other programs read as this one does, apart from YaRN in short inputs."""
    longest = config.train_len if config.rope_scaling.method == "none" else config.max_position_embeddings
    if "attention windows" in own_methods(config, format):
        longest = min(longest, *filter(None, config.layer_windows))
    return longest


def _limits(config: QwenConfig, format: str, checks: Checks) -> str:
    limits = [f"Trained on inputs of up to {config.train_len:,} tokens."]
    if names := own_methods(config, format):
        having = "`qianwen` and Qwen v1's own code have" if format == "qwen-v1" else "only `qianwen` has"
        limits.append(
            f"Longer inputs need {' and '.join(names)}, which {having}. Other programs compute without a message "
            f"something else: use at most {length_elsewhere(config, format):,} tokens there."
        )
    if config.scaling_from and config.rope_scaling.method != "dynamic_ntk":
        limits.append(
            f"Inputs of up to {config.max_position_embeddings:,} tokens are read with {config.rope_scaling.method} "
            f"(factor {config.rope_scaling.factor:g}). `qianwen` scales only inputs of more than "
            f"{config.scaling_from:,} tokens; transformers, vLLM and llama.cpp scale all inputs, which changes answers "
            "to short ones."
        )
    if format.endswith(("Q4_0", "Q4_K_M", "Q8_0", "Int4", "Int8")):
        size = "" if checks.bits_per_weight is None else f" to {checks.bits_per_weight:.1f} bits on average"
        limits.append(
            f"Its weights are quantised{size}: the most likely next token agrees with the source's after "
            f"{checks.parity.top1_agreement:.1%} of the prompts, with a mean KL divergence of "
            f"{checks.parity.mean_kl:.1e} nats."
        )
    return " ".join(limits)


def _is_gguf(format: str) -> bool:
    return format.startswith("GGUF")
