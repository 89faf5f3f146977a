"""The README.md of an exported model: what it is, what it was made of, what was checked, what to beware of.

Hubs read the block between the dashes; people read the rest. A fact that is not known is said to be unknown.
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
{merged}This shows that the conversion is sound. It says nothing about how good the model is.

## Limits

{limits}

The model can be wrong, biased or offensive, and it may repeat what it read. Whoever deploys it must test it for the
purpose at hand, and is responsible for what it is used for.
"""


MERGED = """\
An adapter was added to its base, in fp32; the logits moved by {error:.1e} of their size, within what rounding does.
"""


@dataclass(frozen=True)
class Origin:
    """What the exporter knows of a model's making."""

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
    """The text of the card; of `model` only the name, config and kind are read.

    `merge_error` is how far the logits moved, relative to their size, when an adapter was added to its base.
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
        data=origin.data or "Not recorded. The source of the weights is the place to ask.",
        license=origin.license or "Not recorded. The licence of the source weights applies; look it up before sharing.",
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
            "Longer inputs need dynamic NTK and LogN scaling, which Qwen v1 and `qianwen` apply and other programs do "
            f"not: give them no more than {config.train_len:,} tokens."
        )
    if format.endswith(("Q4_0", "Q8_0", "Int4", "Int8")):
        limits.append("Its weights are rounded to fewer bits, which costs some quality.")
    return " ".join(limits)
