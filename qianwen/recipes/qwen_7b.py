"""Qwen-7B: pretraining and fine-tuning as in its two documents, the memo (v1.0) and the report (both of 2023).

Both give the same network, batch, peak rate and schedule; ε and the number of tokens differ. The corpus is not public:
`data` is a folder with your own token files or texts.

`extend` lengthens the context to that of the README. How it was trained was published for the 72B only, in one
sentence: continued pretraining with longer sequences and a larger rotary base.

`sft` and `sft_memo` fine-tune the released base model. Their dialogues are not public either: add `--data FILE`.
"""

from dataclasses import replace

from qianwen.align.sft_config import SFTConfig
from qianwen.model.config import PRESETS
from qianwen.train.extend import ExtendConfig
from qianwen.train.loop import LoopConfig
from qianwen.train.optim import AdamWConfig
from qianwen.train.parallel import ParallelConfig
from qianwen.train.pretrain import PretrainConfig

SEQ_LEN = 2048  # tokens; both documents
SEQUENCES_PER_STEP = 2048  # memo; the report's "4M tokens" are 2,048 of 2,048


def memo() -> PretrainConfig:
    """The technical memo of v1.0: 2.2T tokens."""
    return PretrainConfig(
        name="qwen-7b-memo",
        data="data/pretrain",  # not published: our choice
        vocabulary="qwen",  # memo: 151,851 tokens, padded to 151,936 rows
        model=replace(
            PRESETS["7b"],  # memo: 32 layers of 4,096, 32 heads
            train_len=2048,  # v1.0 config.json, seq_length
            max_position_embeddings=6144,  # v1.0 config.json, n_positions
        ),
        seq_len=SEQ_LEN,
        loop=LoopConfig(
            steps=round(2.2e12 / (SEQUENCES_PER_STEP * SEQ_LEN)),  # memo: 2.2T tokens
            sequences_per_step=SEQUENCES_PER_STEP,
            micro_batch_size=4,  # not published: our choice
            lr=3e-4,  # memo and report, table 1
            warmup_steps=2000,  # memo
            min_lr_ratio=0.1,  # memo and report, section 2.4: cosine to 10 % of the peak
            shape="cosine",
            max_grad_norm=1.0,  # memo
            max_skips=5,  # not published: our choice
        ),
        optim=AdamWConfig(
            betas=(0.9, 0.95),  # memo and report
            eps=1e-6,  # memo
            weight_decay=0.1,  # memo
        ),
        parallel=ParallelConfig(
            shards=8,  # not published: our choice, one node
            checkpoint_activations=True,  # not published: our choice
            compile=True,  # not published: our choice
        ),
        seed=0,  # not published: our choice
        log_steps=10,  # not published: our choice
        eval_steps=1000,  # not published: our choice
        save_steps=1000,  # not published: our choice
        keep_checkpoints=3,  # not published: our choice
    )


def report() -> PretrainConfig:
    """The technical report: 2.4T tokens, ε 1e-8; values that the report does not give are those of the memo."""
    recipe = memo()
    return replace(
        recipe,
        name="qwen-7b-report",
        loop=replace(recipe.loop, steps=round(2.4e12 / (SEQUENCES_PER_STEP * SEQ_LEN))),  # report, table 1: 2.4T
        optim=replace(recipe.optim, eps=1e-8),  # report, section 2.4
    )


def extend() -> ExtendConfig:
    """From 2,048 to 32,768 tokens. The released 7B was trained on 8,192 and extended without training."""
    return longer(report(), seq_len=32768)  # README: 32K


def longer(recipe: PretrainConfig, seq_len: int) -> ExtendConfig:
    """The extension of the model of `recipe`, for all sizes."""
    tokens_per_step = recipe.tokens_per_step
    pretrain = replace(
        recipe,
        name=f"{recipe.name}-{seq_len // 1024}k",  # 1k is 1,024 tokens
        start_from=recipe.name,
        seq_len=seq_len,
        packed_share=0.2,  # not published: our choice
        loop=replace(
            recipe.loop,
            steps=round(1.0e10 / tokens_per_step),  # not published: our choice, 10B tokens
            sequences_per_step=tokens_per_step // seq_len,  # the batch of the pretraining, 4M tokens
            micro_batch_size=1,  # not published: our choice
            lr=0.1 * recipe.loop.lr,  # not published: our choice, the last rate of the pretraining
            warmup_steps=100,  # not published: our choice
        ),
        parallel=replace(recipe.parallel, checkpoint_activations=True),  # not published: our choice
        eval_steps=200,  # not published: our choice
        save_steps=200,  # not published: our choice
    )
    return ExtendConfig(
        pretrain=pretrain,
        rope_theta=1e6,  # not published for this size; released config.json of the 72B
    )


def sft() -> SFTConfig:
    """The fine-tuning of the report, section 3.1.2."""
    return finetuned("qwen-7b-sft", "Qwen/Qwen-7B")


def sft_memo() -> SFTConfig:
    """The fine-tuning of the memo of v1.0: a higher peak rate, a larger ε, and labels on all but the user's text."""
    return as_in_memo(sft())


def finetuned(name: str, model: str) -> SFTConfig:
    """The fine-tuning of the report for a base model of any size."""
    return SFTConfig(
        name=name,
        model=model,  # the released base model
        data="data/sft.jsonl",  # not published: our choice
        method="full",  # report, section 3.1
        mask="clean",  # report, section 3.1.2: no loss on system and user inputs
        seq_len=2048,  # report, section 3.1.2
        loop=LoopConfig(
            steps=4000,  # report, section 3.1.2
            sequences_per_step=128,  # report, section 3.1.2
            micro_batch_size=1,  # not published: our choice
            lr=2e-6,  # report, section 3.1.2
            warmup_steps=1430,  # report, section 3.1.2
            min_lr_ratio=0.1,  # not published: our choice, as in pretraining
            shape="cosine",  # not published: our choice, as in pretraining
            max_grad_norm=1.0,  # report, section 3.1.2
            max_skips=5,  # not published: our choice
        ),
        optim=AdamWConfig(
            betas=(0.9, 0.95),  # report, section 3.1.2
            eps=1e-8,  # report, section 3.1.2
            weight_decay=0.1,  # report, section 3.1.2
        ),
        dropout=0.1,  # report, section 3.1.2; where: resid_pdrop in the v1.0 config.json of Qwen-7B-Chat
        checkpoint_activations=True,  # not published: our choice
        shards=0,  # not published: our choice, all processes share one copy
        seed=0,  # not published: our choice
        log_steps=10,  # not published: our choice
        save_steps=200,  # not published: our choice
        keep_checkpoints=2,  # not published: our choice
    )


def as_in_memo(recipe: SFTConfig) -> SFTConfig:
    """A fine-tuning with the values of the memo where they differ from those of the report."""
    return replace(
        recipe,
        name=f"{recipe.name}-memo",
        mask="memo",  # memo: no loss on the content of the user's turns
        loop=replace(recipe.loop, lr=1e-5),  # memo
        optim=replace(recipe.optim, eps=1e-6),  # memo
    )
