"""What `qianwen serve` decides before it loads a model."""

import importlib.util

import pytest

from qianwen.cli import serve
from qianwen.runtime.errors import ConfigError


def test_pages_are_there_with_gradio_and_asked_for_in_vain_without(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert serve.has_pages(is_asked=True) and serve.has_pages(is_asked=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not serve.has_pages(is_asked=False)
    assert "pip install 'qianwen[ui]'" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="pip install"):
        serve.has_pages(is_asked=True)


@pytest.mark.parametrize("entry", ["folder", "=folder", "name="])
def test_an_adapter_needs_a_name_and_a_folder(entry):
    with pytest.raises(ConfigError, match="write NAME=FOLDER"):
        serve._named(entry)
    assert serve._named("service=runs/a=b") == ("service", "runs/a=b")
