"""Qwen-72B. The shape and the 3T tokens are published; the training is not, so all other values have a comment."""

from dataclasses import replace

from qianwen.align.sft_config import SFTConfig
from qianwen.model.config import PRESETS
from qianwen.recipes import qwen_7b
from qianwen.train.extend import ExtendConfig
from qianwen.train.pretrain import PretrainConfig


def report() -> PretrainConfig:
    """3T tokens with rotary base 1,000,000; the released model has a context of 32,768."""
    recipe = qwen_7b.report()  # not published: our choice, as for the smaller sizes
    return replace(
        recipe,
        name="qwen-72b",
        model=PRESETS["72b"],  # released config.json: 80 layers of 8,192, 64 heads, rotary base 1,000,000
        seq_len=2048,  # not published: our choice, extended to 32,768 afterwards
        loop=replace(
            recipe.loop,
            steps=round(3.0e12 / recipe.tokens_per_step),  # README: 3T tokens
            lr=1.5e-4,  # not published: our choice
            micro_batch_size=1,  # not published: our choice
        ),
        parallel=replace(recipe.parallel, shards=64),  # not published: our choice
    )


def extend() -> ExtendConfig:
    """From 2,048 to 32,768 tokens; the rotary base is 1,000,000 from the start."""
    return qwen_7b.longer(report(), seq_len=32768)  # README: 32K


def sft() -> SFTConfig:
    """The fine-tuning of the report, which has no 72B: our choice, as for the smaller sizes."""
    return qwen_7b.finetuned("qwen-72b-sft", "Qwen/Qwen-72B")


def sft_memo() -> SFTConfig:
    """The fine-tuning of the memo, which is about the 7B, for this size."""
    return qwen_7b.as_in_memo(sft())
