import random

import pytest

from qianwen.align.service.problems import BREAKABLE, PROBLEMS
from tests.align.service.test_interpreter import here


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_program_works_and_its_broken_form_does_not(problem, language):
    for seed in range(8):
        made = problem(random.Random(seed), language)
        is_ok, output = here(made.program)
        assert is_ok and "{" not in made.answer.format(*output.split("\n")), output
        assert all(line in made.answer.format(*output.split("\n")) for line in output.split("\n"))
        if problem in BREAKABLE:
            assert not here(made.broken)[0]
