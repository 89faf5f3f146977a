"""A real server on loopback over a very small random model: 2 layers, and the 256 bytes as its vocabulary."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest
import uvicorn

from qianwen.engine.llm_engine import EngineConfig, LLMEngine
from qianwen.engine.sampling_params import SamplingParams
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.serve.admission import Admission, Limits
from qianwen.serve.app import HeaderTimeoutProtocol, create_app
from qianwen.serve.bridge import Bridge
from qianwen.serve.gate import AccessRules, Gate, listen
from qianwen.serve.guard import Guard
from qianwen.serve.service import Served, Service
from qianwen.serve.store import Store
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary

SPECIALS = {"<|endoftext|>": 256, "<|im_start|>": 257, "<|im_end|>": 258, "<tool_call>": 259, "</tool_call>": 260}
PATTERN = r"\p{L}+|\p{N}|[^\p{L}\p{N}]"
CONTEXT = 2048


def tiny_tokenizer() -> Tokenizer:
    return Tokenizer(Vocabulary({bytes([value]): value for value in range(256)}, SPECIALS, PATTERN))


def tiny_model() -> Qwen:
    config = QwenConfig(
        vocab_size=272,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
    )
    return Qwen(config).init_weights(seed=1).eval()


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return tiny_tokenizer()


@pytest.fixture(scope="session")
def model() -> Qwen:
    return tiny_model()


@dataclass
class Running:
    """A running server at `url`, with its service and application."""

    url: str
    service: Service
    app: Gate

    def client(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **options)

    @property
    def engine(self) -> LLMEngine:
        return self.service.model(None).bridge.engine


@contextlib.contextmanager
def running(
    model: Qwen,
    tokenizer: Tokenizer,
    *,
    limits: Limits | None = None,
    access: AccessRules | None = None,
    store: Store | None = None,
    guard: Guard | None = None,
    config: EngineConfig | None = None,
    pages: dict | None = None,
) -> Iterator[Running]:
    """Start a server in a thread, and stop it."""
    engine = LLMEngine(model, tokenizer, config or EngineConfig(num_blocks=256))
    served = Served("tiny", Bridge(engine), tokenizer, engine.max_model_len, SamplingParams(temperature=0))
    service = Service([served], Admission(limits or Limits(), store), store, guard)
    listener = listen("127.0.0.1", 0)
    app = create_app(service, access or AccessRules(), **({"with_pages": True, **pages} if pages is not None else {}))
    options = uvicorn.Config(app, http=HeaderTimeoutProtocol, ws="none", access_log=False, log_level="error")
    server = uvicorn.Server(options)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with httpx.Client(trust_env=False) as client:
        client.get(f"{url}/health", timeout=10)
    try:
        yield Running(url, service, app)
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def start(model: Qwen, tokenizer: Tokenizer) -> Callable[..., contextlib.AbstractContextManager[Running]]:
    """A function that starts a server with the given settings."""
    return lambda **options: running(model, tokenizer, **options)


@pytest.fixture(scope="module")
def server(start) -> Iterator[Running]:
    """A server shared by a file's tests; equal requests give equal bits, whatever is in the cache."""
    with start(config=EngineConfig(num_blocks=256, batch_invariant=True)) as running_server:
        yield running_server
