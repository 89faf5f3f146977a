"""The demo's configuration: a Qwen that two CPU cores train from random weights in minutes. All values are our choice.

Budget: seven minutes for all stages and 4 GB on a machine that multiplies float32 at 140 GFLOP/s. Therefore it has
small batches and many steps, a narrow network and a small vocabulary, and most of its text is in one language. The
experiments are in `docs/log.md`.
"""

from dataclasses import replace

from qianwen.align.calculator_dialogues import Counts
from qianwen.align.sft import SFTConfig
from qianwen.chat.messages import FunctionSpec
from qianwen.data.curate.corpus import CorpusConfig
from qianwen.demo.stages import DemoConfig
from qianwen.demo.text import TextConfig
from qianwen.model.config import QwenConfig
from qianwen.runtime.files import runs_dir
from qianwen.train.extend import ExtendConfig
from qianwen.train.loop import LoopConfig
from qianwen.train.optim import AdamWConfig
from qianwen.train.pretrain import PretrainConfig

VOCAB_SIZE = 4096  # tokens, including 208 control tokens
CALCULATOR = FunctionSpec(  # a short description: the context has 512 tokens
    "calculator",
    "Computes the value of an arithmetic expression.",
    {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
    args_format="json",
)
CALCULATOR_DIALOGUES = Counts(call=2_000, react=7_000, direct=500, copy=2_000)


def demo(name: str = "demo", source: str = "quickstart", licences: tuple[str, ...] = (), seed: int = 0) -> DemoConfig:
    """Every stage, from a folder of text or a named corpus to a chat model."""
    text = TextConfig(
        source=source,
        licences=licences,
        corpus=CorpusConfig(
            held_out=0.03,
            # In a few minutes so small a model learns one language, and what functions do, not their code.
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
    """The demo's pretraining, on the demo's text and vocabulary."""
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


def extend(name: str = "demo", seed: int = 0) -> ExtendConfig:
    """The demo's pretrained model from 512 to 2,048 tokens, on the source code of Python's standard library.

    The code is among the documents that the demo fetched; its other documents are too short to be cut.
    """
    folder, recipe = runs_dir() / name, pretrain(name, seed)
    return ExtendConfig(
        pretrain=replace(
            recipe,
            name=f"{name}/extend",
            data=str(folder / "sources" / "documents" / "python-stdlib.jsonl"),
            start_from=str(folder / "pretrain"),
            seq_len=2048,
            packed_share=0.2,
            loop=replace(recipe.loop, steps=500, lr=1e-3, warmup_steps=20),
            log_steps=50,
            eval_steps=100,
            save_steps=100,
        ),
        rope_theta=10_000.0,
        hold_out=0.03,
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


def tool_use(name: str = "demo", seed: int = 0) -> SFTConfig:
    """Fine-tuning of the demo's chat model to use a calculator, on generated dialogues; not a stage of the demo.

    `benchmarks/tool_use.py` writes the dialogues, trains, and asks held-out products.
    """
    folder = runs_dir() / name
    return replace(
        sft(name, seed),
        name=f"{name}/tool_use-{seed}",
        model=str(folder / "sft" / "model"),
        data=str(folder / "tool_use" / f"dialogues-{seed}.jsonl"),
        epochs=1.0,
        loop=replace(sft(name, seed).loop, lr=2e-3),
    )


def quick(
    name: str = "demo", source: str = "python-stdlib", licences: tuple[str, ...] = (), seed: int = 0
) -> DemoConfig:
    """Every stage in seconds, to check that it works. The model learns almost nothing; no network is needed."""
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
    """A small network of Qwen's layers; head and embedding share one weight, most of the weights of a small network.

    It has many narrow heads: a sum is learned once one of the heads attends to the right digit, so more heads learn
    sooner.
    """
    return QwenConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        max_position_embeddings=512,
        rope_theta=500.0,  # a small base: near positions differ more, and a context of 512 needs no slow rotation
        tie_word_embeddings=True,
    )
