"""Replies with a program. `{code}` is the function that was asked for; the reader must return it and nothing else."""

import textwrap
from collections.abc import Iterator
from functools import partial

from qianwen.chat.code_blocks import code_block
from qianwen.eval.reader_cases.case import Case

FUNCTIONS = {
    "add": "def add(a, b):\n    return a + b\n",
    "mean": "def mean(xs: list[float]) -> float:\n    return sum(xs) / len(xs)\n",
    "evens": "def evens(xs):\n    out = []\n    for x in xs:\n        if x % 2 == 0:\n            out.append(x)\n"
    "\n    return out\n",
    "gcd": "import math\n\n\ndef gcd(a, b):\n    return math.gcd(a, b)\n",
    "fib": "def fib(n):\n    # iterative\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n"
    "    return a\n",
    "words": 'def words(text):\n    """Split `text` into words."""\n    return text.split()\n',
    "area": "from math import pi\n\ndef area(r):\n    return pi * r ** 2\n",
    "flip": "class Flip:\n    pass\n\n\ndef flip(x):\n    return not x\n",
    "is_prime": "def is_prime(n):\n    if n < 2:\n        return False\n"
    "    return all(n % d for d in range(2, int(n ** 0.5) + 1))\n",
    "quote": "def quote(s):\n    return '\"' + s + '\"'\n",
    "square": "square = lambda x: x * x\ndef square(x):\n    return x * x\n",
    "load": "async def load(x):\n    return x\n",
    "pattern": "import re\ndef pattern(s):\n    return re.findall(r'\\d+', s)\n",
    "rows": "def rows(m):\n    return [\n        row\n        for row in m\n    ]\n",
    "中值": "def 中值(a, b):\n    return (a + b) / 2\n",
    "loop": "def loop(n):\n    while True:\n        if n > 5:\n            break\n        n += 1\n    return n\n",
    "deco": "import functools\n\n@functools.cache\ndef deco(n):\n    return n\n",
    "nested": "def nested(x):\n    def inner(y):\n        return y\n\n    return inner(x)\n",
}
TEMPLATES = {
    "ordinary": ("```python\n{code}```", "Here it is:\n\n```python\n{code}```\n", "```\n{code}```"),
    "prose after": (
        "```python\n{code}```\nIt uses `{name}` and runs in O(n).",
        "```py\n{code}```\n\n1. First line.\n2. Second line.\n\nLet me know if you need more.",
    ),
    "other languages": (
        "```bash\npip install numpy\n```\n```python\n{code}```",
        "```javascript\nfunction {name}() {{}}\n```\n```python\n{code}```\n```text\n3\n```",
        "```ruby\ndef {name}(x)\nend\n```\nIn Python:\n```python\n{code}```",
        "```json\n{{}}\n```\n```Python\n{code}```",
    ),
    "examples of use": (
        "Use it so:\n```python\nprint({name}(3))\n```\nThe function:\n```python\n{code}```",
        "```python\n{code}```\nExample:\n```python\n{name}(3)\n```\nOutput:\n```\n4\n```",
    ),
    "other functions": (
        "```python\ndef helper(x):\n    return x\n```\nthen\n```python\n{code}```",
        "```python\ndef {name}_slow(x):\n    return x\n```\nfaster:\n```python\n{code}```",
        "```python\ndef test_{name}():\n    assert {name}\n```\n```python\n{code}```",
    ),
    "marks within a line": (
        "Do not write ```{name}``` alone.\n```python\n{code}```",
        "Put it between ``` and ``` marks.\n\n```python\n{code}```",
    ),
    "begins within a line": ("Here is the code: ```python\n{code}```", "Sure! ```\n{code}```"),
    "ends within a line": ("```python\n{stripped}```", "```python\n{code}``` That is all."),
    "in a list": ("1. The function:\n\n   ```python\n{indented}   ```\n2. Done.", "- code:\n  ```\n{indented2}  ```"),
    "in a quotation": ("> ```python\n{quoted}> ```\n",),
    "other fences": (
        "~~~python\n{code}~~~",
        "````python\n{code}````",
        "```{{.python}}\n{code}```",
        "``` python\n{code}```",
    ),
    "within Markdown": ("````markdown\n# Answer\n```python\n{code}```\n````",),
    "interactive": ("```python\n{prompts}```",),
    "no fence": ("{code}", "{code}\nThis function is simple, and it works.", "Here is the function:\n\n{code}"),
    "open fence": ("```python\n{code}", "The code:\n```\n{code}"),
    "carriage returns": ("{carriage}",),
    "not used for tuning": (
        "Step 1:\n```\npip install x\n```\nStep 2:\n```python3\n{code}```\nStep 3: run ```{name}(2)```.",
        '**Solution**\n```python title="{name}.py"\n{code}```',
        "| a | b |\n|---|---|\n\n```python\n{code}```\n\n`{name}` is done.",
        "```python\n{code}```\n```python\n# test\nprint({name})\n```",
        "Sure, here you go\n{code}",
        "```python\n{code}```\n\n**Note:** `x = 3` is not needed.",
    ),
    "corrected afterwards": (
        "```python\ndef {name}(x):\n    return None\n```\nThat is wrong. Correct:\n```python\n{code}```",
    ),
    "HTML": ("<pre><code>\n{code}</code></pre>",),
    "no program": ("I cannot write this function.",),
}


def cases() -> Iterator[Case]:
    """Every template with every function."""
    for kind, templates in TEMPLATES.items():
        for template in templates:
            for name, code in FUNCTIONS.items():
                forms = {"code": code, "name": name, "stripped": code.rstrip("\n")}
                forms |= {"indented": textwrap.indent(code, "   "), "indented2": textwrap.indent(code, "  ")}
                forms["quoted"] = "".join(f"> {line}".rstrip() + "\n" for line in code.splitlines())
                forms["prompts"] = "".join(
                    (">>> " if line[:1].strip() else "... ") + line + "\n" for line in code.splitlines()
                )
                forms["carriage"] = f"```python\n{code}```\n".replace("\n", "\r\n")
                answer = "" if kind == "no program" else code
                yield Case(kind, template.format(**forms), answer, partial(code_block, entry_point=name))


def is_right(read: str, answer: str) -> bool:
    """Blank lines and spaces at the ends of lines do not change a program."""
    return _lines(read) == _lines(answer)


def _lines(code: str) -> list[str]:
    return [line.rstrip() for line in code.splitlines() if line.strip()]
