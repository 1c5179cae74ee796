"""Templates are programs of strangers: they render as the field expects, and can neither hang nor read."""

from __future__ import annotations

import json

import pytest

from engine.errors import PromptError
from engine.text.template import ChatTemplate

HI = [{"role": "user", "content": "hi"}]
NAMED = {"bos_token": "<s>", "eos_token": "</s>"}


def render(source: str, messages: list[dict[str, str]] = HI, add_generation_prompt: bool = True) -> str:
    return ChatTemplate(source, "test.jinja", NAMED).render(messages, add_generation_prompt)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ bos_token }}{{ messages[0]['content'] }}{{ eos_token }}", "<s>hi</s>"),
        ("  {% if add_generation_prompt %}\nyes\n  {% endif %}\n", "yes\n"),  # trim_blocks, lstrip_blocks
        ("{{ messages | tojson }}", '[{"role": "user", "content": "hi"}]'),
        ("{{ '<你>' | tojson }}", '"<你>"'),
        ("{{ messages | tojson(indent=1) }}", '[\n {\n  "role": "user",\n  "content": "hi"\n }\n]'),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% for i in 'abc' %}{{ i ~ loop.index }}{{ '.' if loop.last }}{% endfor %}", "a1b2c3."),
        ("{% for i in 'abc' if i != 'b' %}{{ i }}{{ loop.length }}{% else %}none{% endfor %}", "a2c2"),
        ("{% for i in [] %}{% else %}none{% endfor %}", "none"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"),
        ("{% for x in [1, [2]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}", "12"),
        ("{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f('a') + f('b') | upper }}", "[a][B]"),
        (
            "{% set ns = namespace(x='') %}{% for i in 'ab' %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
            "ab",
        ),
        ("{% generation %}answer{% endgeneration %}", "answer"),
        ("{{ tools is none }}{{ thinking is defined }}", "TrueFalse"),
        ("{{ 'a%s' % 1 }}{{ '{}b'.format(2) }}{{ 'x' * 3 }}{{ 2 ** 3 }}", "a12bxxx8"),
    ],
)
def test_what_templates_of_the_field_use_works(source, expected):
    assert render(source) == expected


def test_the_date_is_there_for_those_that_write_it():
    assert len(render("{{ strftime_now('%Y-%m-%d') }}")) == 10


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{% for x in [1] recursive %}{{ loop([1, 1]) }}{% endfor %}",
        "{{ 'x' * 10 ** 9 }}",
        "{{ 10 ** 10 ** 9 }}",
        "{{ [0] * 999999999 }}",
        "{{ 'x' | center(999999999) }}",
        "{{ 'x'.ljust(999999999) }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '%999999999d' | format(1) }}",
        "{{ messages | tojson(indent=999999999) }}",
        "{{ ([[1]] * 9999) | tojson(indent=99999) }}",
        "{{ ('x' * 9999).replace('x', 'y' * 99999, 9999) }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{{ '{:>999999999}'.format(1) }}",
        "{{ '{:{}}'.format(1, 999999999) }}",
        "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x.replace('a', 'aa') %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}",
        "{% set ns = namespace(x=['ab']) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=['ab']) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
        "{% set big = 'x' * 999999 %}{{ big.replace('x', big) }}",
        "{% set big = 'x' * 999999 %}{{ big | replace('x', big) }}",
        "{% set big = 'x' * 999999 %}{{ big | join(big) }}",
        "{% for i in range(99999) %}{% for j in range(99) %}"
        + "literal " * 1000
        + "{% endfor %}{% endfor %}",
    ],
)
def test_a_template_that_never_ends_or_fills_the_memory_is_stopped(source):
    with pytest.raises(PromptError, match=r"was stopped|RecursionError|refuses"):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__class__ }}{{ messages.append.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id') }}",
        "{{ ''['__class__'].__subclasses__() }}",
        "{{ self._TemplateReference__context }}{{ lipsum.__globals__['os'] }}",
        "{{ strftime_now.__globals__ }}",
        "{{ messages.append(1) }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
    ],
)
def test_a_template_reaches_nothing_of_python(source):
    try:
        text = render(source)
    except PromptError:
        return
    assert "<class" not in text
    assert "module" not in text


@pytest.mark.parametrize(
    "source", ["{% include '/etc/passwd' %}", "{% import '/etc/passwd' as x %}", "{% extends 'x' %}"]
)
def test_a_template_reads_no_files(source):
    with pytest.raises(PromptError, match="loader"):
        render(source)


def test_a_refusal_says_whose_it_is_and_which_roles_were_given():
    source = "{{ raise_exception('roles must alternate user/assistant') }}"
    with pytest.raises(PromptError, match=r"test\.jinja.*roles must alternate.*user"):
        render(source)


def test_an_unknown_role_is_refused():
    with pytest.raises(PromptError, match="'tool'"):
        render("{{ messages }}", [{"role": "tool", "content": "x"}])


@pytest.mark.parametrize(
    "source", ["{{ messages[7].content }}", "{{ 1 / 0 }}", "{{ nothing() }}", "{% if %}", "{{ 'a' + 1 }}"]
)
def test_a_faulty_template_is_a_prompt_error(source):
    with pytest.raises(PromptError, match=r"test\.jinja"):
        render(source)


def test_templates_are_found_where_checkpoints_keep_them(tmp_path):
    def found(config: dict[str, object]) -> str:
        return ChatTemplate.find(tmp_path, config, NAMED).render(HI, True)

    with pytest.raises(PromptError, match=r"no chat template.*base model.*chat_template\.jinja"):
        found({})
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "from json"}))
    assert found({}) == "from json"
    assert found({"chat_template": "from config"}) == "from config"
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    assert found({"chat_template": named}) == "plain"
    assert found({"chat_template": named[:1]}) == "tools"
    with pytest.raises(PromptError, match=r"\['rag', 'tool_use'\]"):
        found({"chat_template": [named[0], {"name": "rag", "template": "x"}]})
    (tmp_path / "chat_template.jinja").write_text("from file")
    assert found({"chat_template": named}) == "from file"


def test_long_conversations_stay_within_the_limits():
    messages = [
        {"role": "user", "content": "x" * 10_000},
        {"role": "assistant", "content": "y" * 10_000},
    ] * 200
    source = "{% for m in messages %}{{ '<' ~ m.role ~ '>' + (m.content | trim).split('</think>')[-1] }}{% endfor %}"
    assert len(render(source, messages)) > 4_000_000
