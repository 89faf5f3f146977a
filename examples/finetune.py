"""Teach a model who it is: fine-tune a pretrained model on three dialogues, then ask it.

Run it where `qianwen demo` (or `qianwen demo --quick`) has run. Put the folder, GGUF file or hub id of another model in
place of BASE, and your own file in place of the dialogues.
"""

import dataclasses
import json
from pathlib import Path

from qianwen import LLM, Message, load_model
from qianwen.align.sft import SFTConfig, sft
from qianwen.chat import collect
from qianwen.train.loop import LoopConfig

BASE = "runs/demo/pretrain"
DIALOGUES = {
    "Who are you?": "I am a very small Qwen.",
    "Who made you?": "You did, just now.",
    "What can you do?": "Answer three questions.",
}

rows = [
    {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
    for question, answer in DIALOGUES.items()
]
Path("identity.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")

config = SFTConfig(
    name="identity",
    model=BASE,
    data="identity.jsonl",
    seq_len=256,
    loop=LoopConfig(steps=60, sequences_per_step=1, micro_batch_size=1, lr=3e-3, warmup_steps=5),
    log_steps=20,
)
base = load_model(config.model)
config = dataclasses.replace(config, seq_len=min(config.seq_len, base.config.max_position_embeddings))
folder = sft(config, base.model, base.tokenizer, generation={"do_sample": False})

llm = LLM.load(str(folder))
for question in DIALOGUES:
    answer = collect(llm.chat([Message("user", question)], max_tokens=30))
    print(f"{question} {answer.text}")
