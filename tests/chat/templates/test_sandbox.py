import sys
import time

import pytest

from qianwen.chat.templates import sandbox
from qianwen.chat.templates.sandbox import CompiledTemplate
from qianwen.runtime.errors import ConfigError, QianwenError, RequestError

MESSAGES = [{"role": "user", "content": "hi"}]


def run(template: str, **variables: object) -> str:
    return CompiledTemplate(template).render({"messages": MESSAGES, **variables})


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ {'a': '<é>', 'b': [1, 2.5, none, true]} | tojson }}", '{"a": "<é>", "b": [1, 2.5, null, true]}'),
        ("{{ {'b': 1, 'a': 2} | tojson(indent=2) }}", '{\n  "b": 1,\n  "a": 2\n}'),
        ("{{ {'b': 1, 'a': 2} | tojson(separators=(',', ':'), sort_keys=true) }}", '{"a":2,"b":1}'),
        ("{{ 'é<' | tojson(ensure_ascii=true) }}", '"\\u00e9<"'),
        ("{{ messages | map(attribute='role') | tojson }}", '["user"]'),
        ("{% for m in [1, 2, 3, 4] %}{% if m == 2 %}{% continue %}{% elif m == 4 %}{% break %}{% endif %}{{ m }}"
         "{% endfor %}",
         "13"),
        ("{% generation %}{{ 'x' }}{% endgeneration %}y", "xy"),
        ("{% set ns = namespace(n=1) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "2"),
        ("{{ 'a,b' | replace(',', ';') ~ 'x'.replace('x', 'y') ~ '-'.join(['1', '2']) ~ ['p', 'q'] | join('+') }}",
         "a;by1-2p+q"),
        ("{{ '{}-{:>3}'.format('a', 'b') }}", "a-  b"),
        ("{{ dict(a=1) | items | list }}{{ 'a\nb' | indent(2) }}", "[('a', 1)]a\n  b"),
        ("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f('a') + f('b') }}", "<a><b>"),
        ("{{ strftime_now('%Y') | length }}{{ 'ab'[::-1] }}{{ 'x' * 3 }}{{ 7 % 4 }}", "4baxxx3"),
        ("{%- for m in messages %}\n    {%- if 1 %}\n        {{- m.content }}\n    {%- endif %}\n{%- endfor %}", "hi"),
    ],
)  # fmt: skip
def test_what_chat_templates_use_works_as_in_transformers(template, text):
    assert run(template) == text


CODE = [
    "{{ cycler.__init__.__globals__.os.system('x') }}",
    "{{ messages.__class__.__mro__ }}",
    "{{ ''.__class__.__base__.__subclasses__() }}",
    "{{ messages.append(1) }}",
    "{{ raise_exception.__globals__['x'] }}",
    "{{ namespace(__class__=1) }}",
    "{% set ns = namespace() %}{% set ns['_a'] = 1 %}",
    "{{ '{0.__class__}'.format(1)['x'].y }}",
    "{{ self.__init__.__globals__ }}",
    "{{ dict.__base__() }}",
    "{{ lipsum() }}",
    "{{ ('%s' % messages).__class__ }}",
    "{{ messages | attr('__class__') }}",
    "{% include '/etc/passwd' %}",
    "{% import 'x' as y %}",
    "{% extends 'x' %}",
]


@pytest.mark.parametrize("template", CODE)
def test_no_code_runs(template):
    with pytest.raises(QianwenError, match="line 1"):
        run(template)


def repeated(start: str, step: str) -> str:
    """A text or a list that grows sixty times."""
    return f"{{% set ns = namespace(x={start}) %}}{{% for i in range(60) %}}{{% set ns.x = {step} %}}{{% endfor %}}"


LARGE = [
    "{{ 'a' * 1000000000 }}",
    "{{ [0] * 100000000 }}",
    repeated("'a' * 1000", "ns.x + ns.x"),
    repeated("'a' * 1000", "ns.x ~ ns.x"),
    repeated("'a' * 1000", "ns.x.replace('a', 'aaaa')"),
    repeated("'a' * 1000", "ns.x | replace('a', 'aaaa')"),
    repeated("'a' * 1000", "[ns.x, ns.x] | join(ns.x)"),
    repeated("[0]", "[ns.x, ns.x]") + "{{ ns.x | tojson }}",
    repeated("[0]", "{'a': ns.x, 'b': ns.x}") + "{{ ns.x }}",
    repeated("[0]", "ns.x + ns.x"),
    repeated("2", "ns.x * ns.x"),
    "{{ 9 ** 9 ** 9 }}",
    "{{ 'a' | center(1000000000) }}",
    "{{ 'a'.ljust(1000000000) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 1000000000) }}",
    "{{ '{:>10000}'.format_map({}) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ 'a' | indent(1000000000) ~ range(1000000000) }}",
    "{{ messages | tojson(indent=1000000000) }}",
    "{% for i in range(100000) %}{{ 'a' * 1000 }}{% endfor %}",
]


@pytest.mark.parametrize("template", LARGE)
def test_no_template_fills_the_memory(template):
    began = time.perf_counter()
    with pytest.raises(QianwenError, match="line 1"):
        run(template)
    assert time.perf_counter() - began < 5


SLOW = [
    "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "{% macro a() %}{% for i in range(99999) %}{% endfor %}{% endmacro %}"
    + "{% for i in range(99999) %}{{ a() }}{% endfor %}",
    "{% macro m0() %}{% endmacro %}"
    + "".join(f"{{% macro m{n}() %}}{{{{ m{n - 1}() or m{n - 1}() }}}}{{% endmacro %}}" for n in range(1, 41))
    + "{{ m40() }}",
]


@pytest.mark.parametrize("template", SLOW)
def test_no_template_runs_for_ever(template, monkeypatch):
    monkeypatch.setattr(sandbox, "MAX_SECONDS", 0.2)
    tracing = sys.gettrace()
    with pytest.raises(RequestError, match="0.2 seconds"):
        run(template)
    assert sys.gettrace() is tracing


def test_a_template_that_calls_itself_without_end():
    with pytest.raises(RequestError, match="recursion"):
        run("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}")


@pytest.mark.parametrize(
    "template", ["{{ " + "(" * 5000 + ")" * 5000 + " }}", "x" * (sandbox.MAX_TEMPLATE + 1), "{% if"]
)
def test_what_cannot_be_compiled(template):
    with pytest.raises(ConfigError, match="chat template"):
        CompiledTemplate(template)


def test_the_variables_of_a_template():
    assert {"messages", "enable_thinking"} <= CompiledTemplate("{{ messages }}{{ enable_thinking }}").variables
    assert "ns" not in CompiledTemplate("{% set ns = 1 %}{{ ns }}").variables
