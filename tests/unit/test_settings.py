"""The reader of settings files: names, ``extends``, types, and where keys belong."""

from dataclasses import dataclass, field

import pytest
from support import refused

from spacer_lib.settings import (
    apply_changes,
    build,
    load_settings,
    read_yaml,
    setting_names,
    setting_pairs,
)


@dataclass(frozen=True)
class Inner:
    weight: float = 1.0
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    steps: int
    rate: float | None = None
    word: str = "a"
    inner: Inner = field(default_factory=Inner)
    parts: dict[str, Inner] = field(default_factory=dict)
    either: int | float = 0


def test_a_file_is_found_by_name_or_path(tmp_path):
    (tmp_path / "one.yaml").write_text("steps: 3\ninner: {weight: 2}\n")
    by_name = load_settings(Outer, "one", tmp_path, ["rate=1e-4", "inner.names=[x]"])
    assert by_name == Outer(3, 1e-4, inner=Inner(2.0, ("x",)))
    assert load_settings(Outer, tmp_path / "one.yaml", tmp_path) == Outer(
        3, inner=Inner(2.0)
    )
    assert setting_names(tmp_path) == ["one"]
    with refused("settings.no-such-file", says="did you mean one?"):
        load_settings(Outer, "onne", tmp_path)


def test_a_file_states_what_differs_and_its_own_keys_stay(tmp_path):
    (tmp_path / "base.yaml").write_text("steps: 3\nword: b\ninner: {weight: 2}\n")
    (tmp_path / "more.yaml").write_text("extends: base\ninner: {names: [x]}\n")
    values = read_yaml("more", tmp_path, own=("word",))
    assert values == {"steps": 3, "inner": {"weight": 2, "names": ["x"]}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1.5", 1.5),
        ("-3", -3),
        ("on", "on"),
        ("no", "no"),
        ("1:30", "1:30"),
        ("2026-01-02", "2026-01-02"),
        ("0o17", "0o17"),
        ("010", "010"),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("'3'", "3"),
        ("0.5", 0.5),
        ("+1.e3", 1000.0),
        ("true", True),
        ("null", None),
        ("", None),
        ("[1, a]", [1, "a"]),
    ],
)
def test_values_are_read_as_yaml_1_2(text, value):
    assert setting_pairs([f"key={text}"]) == [("key", value)]


@pytest.mark.parametrize(
    ("values", "kind", "fact"),
    [
        ({}, "missing-key", "steps"),
        ({"steps": 1, "stepz": 2}, "unknown-key", "did you mean steps?"),
        ({"steps": 1, "weight": 2}, "unknown-key", "did you mean inner.weight?"),
        ({"steps": 1, "inner": {"word": "b"}}, "unknown-key", "did you mean word?"),
        ({"steps": 1, "inner": {3: 1}}, "unknown-key", "inner.3"),
        ({"steps": True}, "wrong-type", "True; expected int"),
        ({"steps": 1.0}, "wrong-type", "1.0; expected int"),
        ({"steps": 1, "word": 2}, "wrong-type", "word"),
        ({"steps": 1, "rate": "x"}, "wrong-type", "float or null"),
        ({"steps": 1, "inner": 2}, "wrong-type", "key: value"),
        ({"steps": 1, "inner": {"names": ["x", 2]}}, "wrong-type", "inner.names[1]"),
        ({"steps": 1, "parts": {"p": {"weight": "x"}}}, "wrong-type", "parts.p.weight"),
        ({"steps": 1, "rate": float("inf")}, "not-finite", "rate"),
        ({"steps": 1, "rate": 10**400}, "not-finite", "rate"),
        ({"steps": 2**63}, "too-large", "64 bits"),
    ],
)
def test_wrong_values_are_named(values, kind, fact):
    with refused(f"settings.{kind}", says=fact):
        build(Outer, values)


def test_whole_numbers_pass_as_floats_and_lists_as_tuples():
    found = build(
        Outer,
        {"steps": 1, "rate": 2, "either": 3, "parts": {"p": {"names": ["x"]}}},
    )
    assert found.rate == 2.0 and isinstance(found.rate, float)
    assert type(found.either) is int and found.parts == {"p": Inner(names=("x",))}


def test_changes_reach_nested_keys_or_are_refused():
    values = {"steps": 1}
    apply_changes(values, {"inner.weight": 2, "steps": 4})
    assert values == {"steps": 4, "inner": {"weight": 2}}
    with refused("settings.no-parts", says="steps.deep"):
        apply_changes(values, ["steps.deep=1"])
    with refused("settings.no-value", says="key=value"):
        apply_changes(values, ["steps"])
    with refused("settings.no-text-key", says="3"):
        apply_changes(values, {3: 1})
    for text in ("[", "{a: 1", "[" * 3000):
        with refused("settings.not-yaml", says="setting steps"):
            apply_changes(values, [f"steps={text}"])


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"a{i}: &a{i} [*a{i - 1 if i else ''}, *a{i - 1 if i else ''}]\n" for i in range(20)
)


@pytest.mark.parametrize(
    ("text", "kind", "fact"),
    [
        ("steps: 1\nword: a\nsteps: 2\n", "key-twice", "line 3: got steps twice"),
        ("inner: {weight: 1, weight: 2}\n", "key-twice", "weight twice"),
        ("steps: 1\n1: 2\n", "no-text-key", "line 2: got 1"),
        ("inner: {true: 2}\n", "no-text-key", "true"),
        ("[1, 2]: 2\n", "no-text-key", "a list or mapping"),
        ("steps: !!int '1:30'\n", "tag", "tag:yaml.org,2002:int"),
        ("steps: !mine 3\n", "tag", "!mine"),
        (LAUGHS, "too-large", "more than 10000 values"),
        ("a: &a [*a]\n", "too-large", "holds itself"),
        ("a: " + "x" * 100_001, "too-large", "100000 characters"),
        ("a: 1\n---\nb: 2\n", "not-yaml", "line 2"),
        ("a:\n\tb: 1\n", "not-yaml", "line 2"),
        ("", "no-mapping", "None"),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(tmp_path, text, kind, fact):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with refused(f"settings.{kind}", says=fact) as caught:
        read_yaml(path, tmp_path)
    assert "bad.yaml" in str(caught.value)


def test_a_file_without_an_end_is_refused(tmp_path):
    path = tmp_path / "endless.yaml"
    path.symlink_to("/dev/zero")
    with refused("settings.too-large", says="endless.yaml"):
        read_yaml(path, tmp_path)


def test_an_alias_stands_for_its_value(tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text("one: &a {b: 1}\ntwo: *a\n")
    assert read_yaml(path, tmp_path) == {"one": {"b": 1}, "two": {"b": 1}}


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a\x00b: 1"])
def test_a_file_that_is_no_text_is_refused(tmp_path, content):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    kind = "unreadable" if content[0] == 0xFF else "not-yaml"
    with refused(f"settings.{kind}", says="bad.yaml"):
        read_yaml(path, tmp_path)
