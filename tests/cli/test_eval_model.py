"""The model of an evaluation: here or behind a URL."""

import pytest

from qianwen.cli.eval import EvalOptions
from qianwen.cli.eval_model import local_model, opened_model, prompt_model
from qianwen.engine.llm import LLM
from qianwen.runtime.errors import ConfigError


def test_a_model_that_runs_here_has_the_options_and_its_settings(model_folder) -> None:
    options = EvalOptions(model=str(model_folder), bits=None, batch=3, exact=True)
    with opened_model(options) as (model, settings):
        assert isinstance(model, LLM)
        assert (model.engine.config.max_num_seqs, model.engine.config.batch_invariant) == (3, True)
        assert (settings["model"], settings["bits"]) == (model_folder.name, None)


def test_the_context_can_be_smaller_than_the_model_s(model_folder) -> None:
    assert local_model(EvalOptions(model=str(model_folder), context=32)).engine.max_model_len == 32


@pytest.mark.parametrize("option", [{"exact": True}, {"bits": 4}, {"bits": None}, {"context": 64}])
def test_settings_of_a_server_are_not_set_from_here(option) -> None:
    with (
        pytest.raises(ConfigError, match="settings of the server"),
        opened_model(EvalOptions(model="m", url="http://127.0.0.1:1/v1", **option)),
    ):
        pass


def test_a_task_that_a_url_cannot_do_is_refused_before_the_url_is_asked() -> None:
    def check(_: object) -> None:
        raise ConfigError("no likelihoods")

    options = EvalOptions(model="m", url="http://127.0.0.1:1/v1")
    with pytest.raises(ConfigError, match="no likelihoods"), opened_model(options, check):
        pass


def test_the_files_of_a_model_say_how_long_its_prompts_may_be(model_folder) -> None:
    read = prompt_model(EvalOptions(model=str(model_folder)))
    assert read is not None
    model = read()
    assert model is read(), "the files are read once"
    assert model.max_len > 32 and model.tokenizer.encode("a")
    smaller = prompt_model(EvalOptions(model=str(model_folder), context=32))
    assert smaller is not None and smaller().max_len == 32
    assert prompt_model(EvalOptions(model="m", url="http://127.0.0.1:1/v1")) is None
