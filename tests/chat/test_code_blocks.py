import warnings

import pytest

from qianwen.chat.code_blocks import code_block, code_blocks, longest_program, parse_program

CODE = "def add(a, b):\n    return a + b\n"


def test_the_block_that_defines_the_function_is_taken() -> None:
    reply = f"Use it so:\n```python\nprint(add(1, 2))\n```\nHere it is:\n```python\n{CODE}```"
    assert code_block(reply, "add") == CODE
    assert code_block("```py\nx = 1") == "x = 1"
    assert code_block("    return a + b\n", "add") == "    return a + b\n"


@pytest.mark.parametrize(
    "reply",
    [
        f"1. The function:\n\n   ```python\n   {CODE.replace(chr(10), chr(10) + '   ')}```\n",
        "> ```python\n> def add(a, b):\n>     return a + b\n> ```\n",
        f"Never write ```add``` so.\n```\n{CODE}```",
        f"Sure: ```python\n{CODE}```",
        f"```python\n{CODE.rstrip()}```",
        f"```python\n{CODE}``` That is all.",
        f"~~~python\n{CODE}~~~",
        f"````markdown\n# Answer\n```python\n{CODE}```\n````",
        f"```ruby\ndef add(a, b)\nend\n```\n```python\n{CODE}```",
        "```python\n>>> def add(a, b):\n...     return a + b\n```",
        f"Here it is:\n\n{CODE}\nIt adds two numbers, as you see.",
        f"```python\n{CODE}",
    ],
)
def test_fences_of_all_sorts(reply: str) -> None:
    assert code_block(reply, "add").strip() == CODE.strip()


def test_python_comes_before_other_languages() -> None:
    assert code_blocks("```sh\nls\n```\n```python\nx = 1\n```\n```\n\n```") == ["x = 1\n", "ls\n"]


def test_blank_lines_of_a_string_keep_their_spaces() -> None:
    code = 'def add(a, b):\n    return """a\n    \nb"""\n'
    assert code_block(f"```python\n{code}```", "add") == code


def test_a_block_of_prose_alone_is_no_program() -> None:
    assert code_block("I cannot do this.", "add") == "I cannot do this." and code_blocks("I cannot do this.") == []


def test_the_longest_program_leaves_out_what_is_not_python() -> None:
    assert longest_program(f"{CODE}\nThis adds them.") == f"{CODE}\n"
    assert longest_program("def f(x):\n    y = 1\n    return (y +") == "def f(x):\n    y = 1\n"
    assert longest_program("this is not python") == "this is not python"


@pytest.mark.parametrize("text", ["return 1", "x = \0", "(" * 5000, "+".join("1" * 20000), "def f(:", "x = '\ud800'"])
def test_what_python_cannot_read_has_no_tree(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse_program(text) is None


def test_warnings_of_a_model_s_code_are_not_shown() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse_program("x = '\\d' is 3\nassert (x, 'always true')") is not None
