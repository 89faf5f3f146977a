"""`qianwen serve` and `qianwen keys`: serve models with OpenAI's API, and manage its API keys."""

import importlib.util
import logging
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.table import Table

from qianwen.chat.functions import FunctionFormat
from qianwen.checkpoints.load import Bits
from qianwen.cli.arguments import localized, parse, parse_subcommand
from qianwen.cli.long_context_options import AS_STORED, LongContextOptions
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import data_dir
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr
from qianwen.serve.admission import Admission, Limits
from qianwen.serve.gate import LOOPBACK, AccessRules, is_loopback, listen
from qianwen.serve.store import Store


def store_path() -> Path:
    """Default file of keys and conversations; --store changes it."""
    return data_dir() / "serve.sqlite"


@dataclass(frozen=True)
class ServeOptions:
    """Serve models over HTTP with OpenAI's API."""

    models: tyro.conf.Positional[tuple[str, ...]]
    """Models: folders, GGUF files, run names or hub ids. NAME=MODEL serves a model under that name."""
    adapter: tuple[str, ...] = ()
    """LoRA adapters of the first model, as NAME=ADAPTER (a folder, run name or hub id)."""
    host: str = "127.0.0.1"
    """Address to listen on. All but loopback addresses need an API key: `qianwen keys add NAME`."""
    port: int = 8000
    """Port to listen on."""
    bits: Bits = "stored"
    """Bits per weight: `stored`: as on disk; 4, 5, 8, 16: packed for the fast kernels; None: unpacked floats."""
    context: int = 0
    """Maximum tokens of prompt and answer together; 0: the model's own limit, or what fits in memory."""
    max_running: int = 16
    """Maximum number of answers generated at once."""
    kv_cache_dtype: Literal["auto", "bfloat16", "int8"] = "auto"
    """Number format of the key-value cache; auto: the same as the weights; int8: half the memory of bfloat16."""
    batch_invariant: bool = False
    """Compute the same bits for a request whatever else runs at the same time; slower."""
    function_style: FunctionFormat | None = None
    """Write functions into prompts in this style, where a request does not choose one; default: the model's own."""
    require_key: bool = False
    """Require an API key on loopback too."""
    allow_host: tuple[str, ...] = ()
    """Further host names that requests may use for this server."""
    allow_origin: tuple[str, ...] = ()
    """Other web sites whose pages may call this server, as https://NAME."""
    guard: str = ""
    """Filter for prompts and answers: MODULE:FUNCTION that takes a text and returns a reason to block it, or None; or
    an output folder of `qianwen data train-filter`, to use its safety classifier."""
    ui: bool = True
    """Serve web pages at /: chat, and the runs of this machine. Needs `pip install 'qianwen[ui]'`."""
    show_runs: bool = False
    """Where keys are required, show the runs to every user with a key, not only to administrators."""
    store: Path | None = None
    """SQLite file of keys, usage and conversations; by default serve.sqlite in the data folder."""
    limits: Limits = field(default_factory=Limits)
    long_context: tyro.conf.OmitArgPrefixes[LongContextOptions] = AS_STORED


def serve(argv: list[str]) -> int:
    """Check the access rules, load the models, and serve until a signal."""
    options = parse(ServeOptions, "qianwen serve", argv)
    if not options.models:
        raise ConfigError(tr("name a model to serve: a folder, a GGUF file, a run or a hub id"))
    store = Store(options.store or store_path())
    access = access_rules(options, store)
    with_pages = options.ui and has_pages(is_asked="--ui" in argv)
    sockets = [listen(options.host, options.port)]  # fail on a busy port before the weights are read

    from qianwen.serve import app
    from qianwen.serve.guard import load_guard
    from qianwen.serve.service import Service

    guard = load_guard(options.guard) if options.guard else None
    models = _load(options.models[0], options, options.adapter)
    models += [served for entry in options.models[1:] for served in _load(entry, options)]
    if len({served.name for served in models}) < len(models):
        raise ConfigError(tr("two models have the same name; give each a name of its own with NAME=MODEL"))
    service = Service(models, Admission(options.limits, store), store, guard)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    url = f"http://{options.host}:{options.port}"
    console.print(tr("serving {names} at {url}/v1", names=", ".join(service.models), url=url), style="bold")
    if with_pages:
        console.print(tr("pages at {url}/", url=url), style="bold")
    of_runs = replace(options, context=0, long_context=AS_STORED)  # a run has another length than the served models
    served = app.create_app(
        service, access, with_pages=with_pages, load=lambda name, model: _load(f"{name}={model}", of_runs)[0]
    )
    app.serve(served, service, options.host, options.port, sockets)
    return 0


def has_pages(*, is_asked: bool) -> bool:
    """Whether Gradio is installed. Raises ConfigError if it is not and --ui was given explicitly."""
    if importlib.util.find_spec("gradio") is not None:
        return True
    message = tr("the pages need Gradio: pip install 'qianwen[ui]'")
    if is_asked:
        raise ConfigError(message)
    console.print(message, style="dim", markup=False)
    return False


def access_rules(options: ServeOptions, store: Store) -> AccessRules:
    """The access rules. Raises ConfigError for a server that other machines can reach but that has no API key."""
    is_local = is_loopback(options.host)
    if not is_local and not store.has_keys():
        message = tr(
            "{host} can be reached from other machines, but there is no API key "
            "yet; create one with `qianwen keys add NAME`",
            host=options.host,
        )
        raise ConfigError(message)
    names = set() if is_local else {options.host, socket.gethostname(), socket.getfqdn()}
    return AccessRules(
        hosts=LOOPBACK | names | {name.lower() for name in options.allow_host},
        origins=frozenset(options.allow_origin),
        keys_required=options.require_key or not is_local,
        show_runs=options.show_runs,
        store=store,
    )


def _load(entry: str, options: ServeOptions, adapters: Sequence[str] = ()) -> list:
    """A model and the adapters that share its weights, as `Served`. Imports are here because they load torch."""
    from qianwen.chat.render import ChatFormat
    from qianwen.cli.model_settings import settings_line
    from qianwen.engine.llm import LLM
    from qianwen.engine.llm_engine import EngineConfig
    from qianwen.serve.bridge import Bridge
    from qianwen.serve.service import Served

    name, _, model = entry.rpartition("=")
    config = EngineConfig(
        max_model_len=options.context,
        extension=options.long_context.extension,
        max_num_seqs=options.max_running,
        kv_cache_dtype=options.kv_cache_dtype,
        memory_share=EngineConfig.memory_share / len(options.models),
        batch_invariant=options.batch_invariant,
    )
    llm = LLM.load(model, bits=options.bits, windows=options.long_context.window_sizes, config=config)
    folders = dict(map(_named, adapters))
    for adapter, folder in folders.items():
        llm.add_adapter(adapter, folder)
    name = name or llm.name
    bridge, context = Bridge(llm.engine), llm.engine.max_model_len
    ChatFormat(llm.tokenizer).functions(chosen=options.function_style)  # refuses what this model's template has not
    base = Served(
        name,
        bridge,
        llm.tokenizer,
        context,
        llm.defaults,
        recommended=llm.recommended,
        source=model,
        function_style=options.function_style,
    )
    console.print(f"{name}: {settings_line(llm, {})}", style="dim", markup=False)
    variants = [
        replace(base, name=adapter, adapter=adapter, parent=name, source=folder) for adapter, folder in folders.items()
    ]
    return [base, *variants]


def _named(entry: str) -> tuple[str, str]:
    name, _, folder = entry.partition("=")
    if not name or not folder:
        raise ConfigError(tr("--adapter {entry}: write NAME=FOLDER", entry=entry))
    return name, folder


def keys(argv: list[str]) -> int:
    """Dispatch `list` (the default), `add` and `revoke`."""
    commands = {"list": list_keys, "add": add_key, "revoke": revoke_key}
    return parse_subcommand(commands, "qianwen keys", argv or ["list"])()


Name = Annotated[
    str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME", help=localized("Name of the key, to revoke it by."))
]
PerDay = Annotated[int | None, tyro.conf.arg(help=localized("Maximum tokens of prompts and answers in one day."))]
PerMinute = Annotated[int | None, tyro.conf.arg(help=localized("Maximum requests in one minute."))]
Admin = Annotated[bool, tyro.conf.arg(help=localized("Allow fine-tuning and loading models from the pages."))]
StoreFile = Annotated[Path | None, tyro.conf.arg(help=localized("SQLite file of keys and usage."))]


def list_keys(store: StoreFile = None) -> int:
    """List the API keys with their limits and usage. The keys themselves are not shown."""
    if store is None and not store_path().exists():
        console.print(tr("no keys yet: `qianwen keys add NAME` creates the first"))
        return 0
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in ("name", "state", "requests", "tokens", "tokens today", "tokens a day", "requests a minute"):
        table.add_column(tr(heading))
    for row in Store(store or store_path(), create=False).key_table():
        limits = (row["tokens_per_day"], row["requests_per_minute"])
        used = (row["requests"], row["tokens"], row["tokens_today"])
        numbers = ("-" if number is None else f"{number:,}" for number in (*used, *limits))
        state = tr("revoked") if row["revoked"] else tr("admin") if row["is_admin"] else tr("in use")
        table.add_row(row["name"], state, *numbers)
    console.print(table)
    return 0


def add_key(
    name: Name,
    tokens_per_day: PerDay = None,
    requests_per_minute: PerMinute = None,
    admin: Admin = False,
    store: StoreFile = None,
) -> int:
    """Create an API key and print it. It is not shown again."""
    limits = {"tokens_per_day": tokens_per_day, "requests_per_minute": requests_per_minute}
    print(Store(store or store_path()).add_key(name, **limits, is_admin=admin))
    console.print(
        tr("Store this key now: it is not shown again. Clients send it as `Authorization: Bearer KEY`."), style="dim"
    )
    return 0


def revoke_key(name: Name, store: StoreFile = None) -> int:
    """Revoke an API key; the next request with it fails."""
    Store(store or store_path(), create=False).revoke_key(name)
    console.print(tr("{name} is revoked", name=name))
    return 0
