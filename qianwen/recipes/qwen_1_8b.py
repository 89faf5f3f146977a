"""Qwen-1.8B: pretraining as in the report. Values that it does not give are from the 7B memo, with a comment."""

from dataclasses import replace

from qianwen.align.sft_config import SFTConfig
from qianwen.model.config import PRESETS
from qianwen.recipes import qwen_7b
from qianwen.train.extend import ExtendConfig
from qianwen.train.pretrain import PretrainConfig


def report() -> PretrainConfig:
    """2.2T tokens in steps of 4M at a peak rate of 3e-4, context 2,048."""
    recipe = qwen_7b.report()  # report, section 2.4: one recipe for all sizes
    return replace(
        recipe,
        name="qwen-1.8b-report",
        model=replace(PRESETS["1.8b"], train_len=2048),  # report, table 1: 24 layers of 2,048, 16 heads; context 2,048
        loop=replace(
            recipe.loop,
            steps=round(2.2e12 / recipe.tokens_per_step),  # report, table 1: 2.2T tokens, batch 4M
            lr=3e-4,  # report, table 1
            micro_batch_size=8,  # not published: our choice
        ),
        parallel=replace(recipe.parallel, checkpoint_activations=False),  # not published: our choice
    )


def extend() -> ExtendConfig:
    """From 2,048 to 32,768 tokens. The released 1.8B was trained on 8,192 and extended without training."""
    return qwen_7b.longer(report(), seq_len=32768)  # README: 32K


def sft() -> SFTConfig:
    """The fine-tuning of the report, section 3.1.2."""
    return qwen_7b.finetuned("qwen-1.8b-sft", "Qwen/Qwen-1_8B")


def sft_memo() -> SFTConfig:
    """The fine-tuning of the memo, which is about the 7B, for this size."""
    return qwen_7b.as_in_memo(sft())
