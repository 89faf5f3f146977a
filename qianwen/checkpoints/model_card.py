"""The README.md of an exported model: its shape, data, licence, checks and limits.

Hubs read the block between the dashes; people read the rest. The card states which facts are not known.
"""

from dataclasses import dataclass

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

The files in this folder were read back and compared with the source on {num_prompts} short prompts: {parity}.
{merged}This checks that the conversion is correct. It does not measure the quality of the model.

## Limits

{limits}

The model can be wrong, biased or offensive, and it may repeat its training data. If you deploy it, test it for your
purpose first; you are responsible for its use.
"""


MERGED = """\
An adapter was merged into its base model in fp32. This changed the logits by {error:.1e} (relative), as rounding does.
"""


@dataclass(frozen=True)
class Origin:
    """Facts about the origin of a model for its card."""

    source: str
    license: str = ""  # an SPDX name or a text; empty if unknown
    data: str = ""


def model_card(
    model: LoadedModel | OpenModel,
    origin: Origin,
    parity: Parity,
    *,
    format: str,
    command: str,
    merge_error: float | None = None,
) -> str:
    """The text of the card. Only the name, the config and `chat` of `model` are used.

    `merge_error` is the relative change of the logits when an adapter was merged; None: there was no adapter.
    """
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
        num_prompts=parity.num_prompts,
        parity=parity,
        merged="" if merge_error is None else MERGED.format(error=merge_error),
        limits=_limits(config, format),
    )


def _limits(config: QwenConfig, format: str) -> str:
    limits = [f"Trained on inputs of up to {config.train_len:,} tokens."]
    if config.use_dynamic_ntk or config.use_logn_attn:
        limits.append(
            "Longer inputs need dynamic NTK and LogN scaling, which Qwen v1 and `qianwen` have and other programs do "
            f"not: use at most {config.train_len:,} tokens there."
        )
    if format.endswith(("Q4_0", "Q8_0", "Int4", "Int8")):
        limits.append("Its weights are quantised, which reduces the quality a little.")
    return " ".join(limits)
