"""`import qianwen`: the four names a user starts from, and nothing heavy before one of them is used."""

import subprocess
import sys

import pytest

import qianwen


def test_names_are_those_of_the_chapters() -> None:
    from qianwen.chat.messages import Message
    from qianwen.checkpoints.load import load_model
    from qianwen.engine.llm import LLM
    from qianwen.engine.sampling_params import SamplingParams

    assert (qianwen.LLM, qianwen.SamplingParams) == (LLM, SamplingParams)
    assert (qianwen.Message, qianwen.load_model) == (Message, load_model)
    assert set(qianwen.__all__) <= set(dir(qianwen))


def test_import_loads_nothing_heavy() -> None:
    code = "import sys, qianwen; print(sorted({'torch', 'numpy', 'tyro', 'rich'} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_unknown_name_is_an_attribute_error_that_lists_the_known() -> None:
    with pytest.raises(AttributeError, match="load_model"):
        qianwen.Model  # noqa: B018
