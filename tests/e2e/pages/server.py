"""A server with pages for the browser's journeys, with a very small real model that answers in letters.

    python server.py FOLDER [--locked] [--attacks] [--digits] [--extended] [--port P] [--max-requests N]

prints `port P`, `keys ANN BOB` and `ready`; SIGTERM ends it. The model `letters` never ends by itself and takes 10 ms a
token, so that a reader can be quicker. With `--attacks` there is another one, whose tokens are whole attacks: whatever
its random weights say is one; and the store holds a conversation of attacks and many that are called after one. With
`--digits` there is another one that answers in digits. With `--extended` the model reads four times its trained
length. `letters` is also a folder, so it can be fine-tuned.
"""

import argparse
import logging
import time
from pathlib import Path

import torch
import uvicorn

from qianwen.checkpoints.hf_folder import write_folder
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig, LLMEngine
from qianwen.engine.sampling_params import SamplingParams
from qianwen.model.config import QwenConfig
from qianwen.model.long_context import LongContext
from qianwen.model.transformer import Qwen
from qianwen.serve.admission import Admission, Limits
from qianwen.serve.app import HeaderTimeoutProtocol, Server, create_app
from qianwen.serve.bridge import Bridge
from qianwen.serve.gate import AccessRules, listen
from qianwen.serve.service import Served, Service
from qianwen.serve.store import Conversation, Store
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary

CONTEXT = 1024
SPECIALS = {"<|endoftext|>": 256, "<|im_start|>": 257, "<|im_end|>": 258}
PATTERN = r"\p{L}+|\p{N}|[^\p{L}\p{N}]"
TOKEN_SECONDS = 0.01

# A line of the file is one attack, in which \n stands for a line break. Each is also tried inside code and around it.
LINES = (Path(__file__).parent / "attacks.txt").read_text(encoding="utf-8").splitlines()
VECTORS = [line.replace("\\n", "\n") for line in LINES]
FRAMES = ["{}", "`{}` ``` {}", "```html\n{}\n```\n\n> {}\n\n| a |\n|---|\n| {} |"]
ATTACKS = [frame.replace("{}", vector) for frame in FRAMES for vector in VECTORS]


def model_of(tokens: range) -> Qwen:
    """Random weights that can only generate `tokens`."""
    size = max(tokens.stop, 272)
    shape = QwenConfig(
        vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=CONTEXT, initializer_range=0.3,
    )  # fmt: skip
    model = Qwen(shape).init_weights(seed=1).eval()
    with torch.no_grad():
        kept = model.lm_head.weight[tokens.start : tokens.stop].clone() * 4
        model.lm_head.weight.zero_()
        model.lm_head.weight[tokens.start : tokens.stop] = kept
    return model


class SlowEngine(LLMEngine):
    def step(self):
        time.sleep(TOKEN_SECONDS)
        return super().step()


def served(
    name: str,
    tokens: range,
    more: dict[bytes, int] | None = None,
    folder: Path | None = None,
    *,
    is_extended: bool = False,
) -> Served:
    ranks = {bytes([value]): value for value in range(256)} | (more or {})
    tokenizer, model = Tokenizer(Vocabulary(ranks, SPECIALS, PATTERN)), model_of(tokens)
    if folder is not None and not folder.exists():
        write_folder(model, tokenizer, folder, chat=True)
    longer = {"max_model_len": 4 * CONTEXT, "extension": LongContext(rope="dynamic_ntk")} if is_extended else {}
    engine = SlowEngine(model, tokenizer, EngineConfig(num_blocks=256, **longer))
    limit, source = engine.max_model_len, "" if folder is None else str(folder)
    return Served(name, Bridge(engine), tokenizer, limit, SamplingParams(temperature=0), source=source)


def load(name: str, model: str) -> Served:
    """The model of a run, with the sampling of the others."""
    llm = LLM.load(model, config=EngineConfig(num_blocks=256))
    limit, params = llm.engine.max_model_len, SamplingParams(temperature=0)
    return Served(name, Bridge(llm.engine), llm.tokenizer, limit, params, source=model)


def fill(store: Store) -> None:
    """One conversation that contains every attack, and one conversation with each attack as its title."""
    said = [{"role": role, "content": text} for text in ATTACKS for role in ("user", "assistant")]
    store.save_conversation("local", Conversation("attacks", "Attacks", 3.0, said, {}))
    for number, vector in enumerate(VECTORS):
        said = [{"role": "user", "content": vector}]
        store.save_conversation("local", Conversation(f"title{number}", vector, 1.0 + number / 1000, said, {}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--locked", action="store_true")
    parser.add_argument("--attacks", action="store_true", help="say and be called attacks")
    parser.add_argument("--digits", action="store_true", help="serve a second model")
    parser.add_argument("--extended", action="store_true", help="read four times the trained length")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--max-requests", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    store = Store(options.folder / "serve.sqlite")
    letters, folder = range(ord("a"), ord("z") + 1), options.folder / "letters"
    models = [served("letters", letters, folder=folder, is_extended=options.extended)]
    if options.digits:
        models.append(served("digits", range(ord("0"), ord("9") + 1)))
    if options.attacks:
        tokens = {attack.encode(): 259 + number for number, attack in enumerate(ATTACKS)}
        models.append(served("attacks", range(259, 259 + len(ATTACKS)), tokens))
        fill(store)
    if options.locked and not store.has_keys():
        print("keys", store.add_key("ann"), store.add_key("bob"), flush=True)
    limits = Limits(drain_seconds=5, max_requests=options.max_requests)
    service = Service(models, Admission(limits, store), store)
    access = AccessRules(keys_required=options.locked, store=store)
    app = create_app(service, access, with_pages=True, load=load)
    listener = listen("127.0.0.1", options.port)
    print("port", listener.getsockname()[1], flush=True)
    print("ready", flush=True)
    config = uvicorn.Config(app, http=HeaderTimeoutProtocol, ws="none", access_log=False, log_level="warning")
    Server(config, service).run([listener])


if __name__ == "__main__":
    main()
