"""The demo's values: a Qwen that two CPU cores train from nothing in a few minutes. All of them are our choice.

Budget: seven minutes for all stages and 4 GB on a machine that multiplies float32 at 140 GFLOP/s. So the batch is small
and the steps many, the network narrow, the vocabulary short, and most of the text in one language. `docs/log.md` tells
what was tried.
"""

from dataclasses import replace

from qianwen.align.sft import SFTConfig
from qianwen.data.curate.corpus import CorpusConfig
from qianwen.demo.stages import DemoConfig
from qianwen.demo.text import TextConfig
from qianwen.model.config import QwenConfig
from qianwen.runtime.files import runs_dir
from qianwen.train.loop import LoopConfig
from qianwen.train.optim import AdamWConfig
from qianwen.train.pretrain import PretrainConfig

VOCAB_SIZE = 4096  # tokens, 208 control tokens among them


def demo(name: str = "demo", source: str = "quickstart", licences: tuple[str, ...] = (), seed: int = 0) -> DemoConfig:
    """Every stage, from a folder of text or a named corpus to a chat model."""
    text = TextConfig(
        source=source,
        licences=licences,
        corpus=CorpusConfig(
            held_out=0.03,
            # In minutes a model this small learns one language, and what functions do rather than how.
            outline_code=True,
            shares={"python-stdlib": 0.6, "wikipedia-fr": 0.0, "wikipedia-es": 0.0, "many-languages": 0.0},
        ),
        num_sums=60_000,
        held_out_sums=0.1,
        num_dialogues={"definition": 2400, "person": 800, "docstring": 600, "arithmetic": 3600},
        num_questions=80,
    )
    return DemoConfig(name=name, text=text, vocab_size=VOCAB_SIZE, pretrain=pretrain(name, seed), sft=sft(name, seed))


def pretrain(name: str = "demo", seed: int = 0) -> PretrainConfig:
    """The demo's pretraining, on the text and with the vocabulary that the demo made."""
    folder = runs_dir() / name
    return PretrainConfig(
        name=f"{name}/pretrain",
        data=str(folder / "text" / "train"),
        vocabulary=str(folder / "tokenizer"),
        model=_shape(hidden_size=192, intermediate_size=512, num_hidden_layers=4, num_attention_heads=6),
        seq_len=512,
        loop=LoopConfig(
            steps=2000,
            sequences_per_step=1,
            micro_batch_size=1,
            lr=3e-3,
            warmup_steps=40,
            min_lr_ratio=0.0,
        ),
        optim=AdamWConfig(weight_decay=0.1),
        seed=seed,
        log_steps=100,
        eval_steps=400,
        save_steps=400,
        held_out=(str(folder / "text" / "sample"),),
    )


def sft(name: str = "demo", seed: int = 0) -> SFTConfig:
    """The demo's fine-tuning, on the dialogues derived from its text."""
    folder = runs_dir() / name
    return SFTConfig(
        name=f"{name}/sft",
        model=str(folder / "pretrain"),
        data=str(folder / "text" / "dialogues" / "train.jsonl"),
        seq_len=512,
        epochs=2.0,
        loop=LoopConfig(
            steps=0, sequences_per_step=1, micro_batch_size=1, lr=1.5e-3, warmup_steps=20, min_lr_ratio=0.0
        ),
        seed=seed,
        log_steps=50,
        save_steps=200,
    )


def quick(
    name: str = "demo", source: str = "python-stdlib", licences: tuple[str, ...] = (), seed: int = 0
) -> DemoConfig:
    """Every stage in seconds, to see that it works: it learns next to nothing, and needs no network."""
    whole = demo(name, source, licences, seed)
    text = replace(
        whole.text,
        corpus=CorpusConfig(held_out=0.1, outline_code=True, shares={"python-stdlib": 0.4}),
        num_sums=800,
        num_dialogues={"docstring": 60, "arithmetic": 60, "definition": 60},
        num_questions=4,
    )
    shape = _shape(hidden_size=64, intermediate_size=192, num_hidden_layers=2, num_attention_heads=1)
    steps = {"steps": 20, "warmup_steps": 4}
    return replace(
        whole,
        text=text,
        vocab_size=1024,
        pretrain=replace(
            whole.pretrain, model=shape, loop=replace(whole.pretrain.loop, **steps), log_steps=10, eval_steps=20
        ),
        sft=replace(whole.sft, loop=replace(whole.sft.loop, **steps), log_steps=10),
    )


def _shape(hidden_size: int, intermediate_size: int, num_hidden_layers: int, num_attention_heads: int) -> QwenConfig:
    """Qwen's block in small; the head shares the embedding, which is most of a small network.

    Many narrow heads: a sum is learned once some head looks at the digit in the right place, and each is one more try.
    """
    return QwenConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        max_position_embeddings=512,
        rope_theta=500.0,  # a context of 512 needs no slower turns; what stands near is told apart sooner
        tie_word_embeddings=True,
    )
