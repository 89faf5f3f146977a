"""Chat templates beside `apply_chat_template` of transformers: equal ids for seeded conversations of each family.

The templates of the families are not part of this project: QIANWEN_CHAT_TEMPLATES names a folder with `.jinja` files
(as `models/templates` of llama.cpp), QIANWEN_WEIGHTS one with GGUF files. `benchmarks/chat_templates.py` prints the
table.
"""

import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="transformers is the oracle")

from qianwen.tokenizer.template_files import QWEN_V1  # noqa: E402
from qianwen.tokenizer.tokenizer import Tokenizer  # noqa: E402

from ..outside import test_chat_templates as small  # noqa: E402

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import chat_templates as bench  # noqa: E402

NUM = 200
SMALL = {"plain": small.with_default("Be kind."), "none": small.with_default(None), "thinking": small.THINKING,
         "tools": small.TOOLS, "headers": small.HEADERS, "always": small.ALWAYS, "joins": small.JOINS,
         "brackets": small.BRACKETS}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_ids_are_those_of_transformers(name: str) -> None:
    ours = small.tokenizer(SMALL[name], bos_token="<|begin_of_text|>")
    counts, different = bench.compare(ours, bench.reference(ours.vocabulary, ours.template), NUM)
    assert counts["conversations"] == counts["equal ids"] == NUM and not counts["only we refuse"], different[:1]


def test_ids_of_what_sft_makes_here() -> None:
    ours = small.tokenizer(None)
    source = bench.template_source(ours)
    counts, different = bench.compare(ours, bench.reference(ours.vocabulary, source), NUM)
    assert counts["conversations"] == counts["equal ids"] == NUM and not counts["only we refuse"], different[:1]


def test_ids_of_qwen_v1_are_those_of_its_released_code() -> None:
    assert bench.compare_v1(Tokenizer(small.vocabulary(), template=QWEN_V1), NUM) == NUM


@pytest.mark.nightly
def test_the_families_of_the_world() -> None:
    folders = [os.environ.get(name) for name in ("QIANWEN_WEIGHTS", "QIANWEN_CHAT_TEMPLATES")]
    if not all(folders):
        pytest.skip("set QIANWEN_WEIGHTS and QIANWEN_CHAT_TEMPLATES to folders with GGUF files and templates")
    num_checked = 0
    for name, vocabulary, source in bench.families(*(Path(folder or "") for folder in folders)):
        if vocabulary is None or source is None:
            print(f"{name}: unchecked")
            continue
        ours = Tokenizer(vocabulary, template=source)
        counts, different = bench.compare(ours, bench.reference(vocabulary, source), NUM)
        print(f"{name}: {counts}")
        assert counts["equal ids"] == counts["conversations"] and not counts["only we refuse"], different[:1]
        num_checked += 1
    assert num_checked
