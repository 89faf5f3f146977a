"""Qwen-14B: pretraining as in the report. Values that it does not give are from the 7B memo, with a comment."""

from dataclasses import replace

from qianwen.align.sft_config import SFTConfig
from qianwen.model.config import PRESETS
from qianwen.recipes import qwen_7b
from qianwen.train.extend import ExtendConfig
from qianwen.train.pretrain import PretrainConfig


def report() -> PretrainConfig:
    """3.0T tokens in steps of 4M at a peak rate of 3e-4, context 2,048."""
    recipe = qwen_7b.report()  # report, section 2.4: one recipe for all sizes
    return replace(
        recipe,
        name="qwen-14b-report",
        model=PRESETS["14b"],  # report, table 1: 40 layers of 5,120, 40 heads; trained on 2,048 tokens
        loop=replace(
            recipe.loop,
            steps=round(3.0e12 / recipe.tokens_per_step),  # report, table 1: 3.0T tokens, batch 4M
            lr=3e-4,  # report, table 1
            micro_batch_size=2,  # not published: our choice
        ),
    )


def extend() -> ExtendConfig:
    """From 2,048 to 8,192 tokens. The released 14B reaches this length with the training-free methods."""
    return qwen_7b.longer(report(), seq_len=8192)  # README: 8K


def sft() -> SFTConfig:
    """The fine-tuning of the report, section 3.1.2."""
    return qwen_7b.finetuned("qwen-14b-sft", "Qwen/Qwen-14B")


def sft_memo() -> SFTConfig:
    """The fine-tuning of the memo, which is about the 7B, for this size."""
    return qwen_7b.as_in_memo(sft())
