"""YAML files → frozen dataclasses; every key and type is checked.

A file may say ``extends: other`` and then states only what differs. An undeclared key
is an error that names the nearest declared one: a run with a misspelt key would
otherwise train with the default.
"""

import dataclasses
import math
import re
import reprlib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from spacer_lib.artifacts import PathLike, listing
from spacer_lib.errors import SpacerError, nearest, remedy_for

T = TypeVar("T")


MOST_CHARACTERS = 100_000  # of a file
MOST_VALUES = 10_000  # of a file, its aliases written out


class _Loader(yaml.SafeLoader):
    """Plain values as in YAML 1.2: ``on`` is a word, ``1e-4`` a number.

    What YAML versions read differently is a word: ``1:30``, ``010``, ``0x1f``,
    ``1_000``, dates. Every key is a text and stands once, and no value has a tag.
    """

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None and _size(node, {}) > MOST_VALUES:
            raise _refused(node, "too-large", f"more than {MOST_VALUES} values")
        return node

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        tag = getattr(event, "tag", None)
        node = super().compose_node(parent, index)
        if tag not in (None, "!") and not isinstance(event, yaml.AliasEvent):
            raise _refused(node, "tag", f"the tag {tag}", "a value without one")
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                name = getattr(key, "value", "")
                got = name if isinstance(name, str) else "a list or mapping"
                raise _refused(key, "no-text-key", got, "a text, such as '1' in quotes")
            if key.value in seen:
                raise _refused(key, "key-twice", f"{key.value} twice", "each key once")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _size(node: Any, known: dict[int, int | None]) -> int:
    """Values below a node, each alias counted as what it stands for."""
    if id(node) not in known:
        known[id(node)] = None
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        pairs = (part if isinstance(part, tuple) else (part,) for part in parts)
        known[id(node)] = 1 + sum(_size(one, known) for pair in pairs for one in pair)
    size = known[id(node)]
    if size is None:
        raise _refused(node, "too-large", "a value that holds itself")
    return size


def _refused(node: Any, fault: str, got: str, expected: str = "less") -> SpacerError:
    return SpacerError(
        f"line {node.start_mark.line + 1}",
        kind=f"settings.{fault}",
        got=got[:80],
        expected=expected,
    )


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if tag.endswith(":null")]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _form, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_form})$"), list(_first)
    )

Changes = Mapping[str, Any] | Iterable[str]


def load_settings(
    kind: type[T],
    name: PathLike,
    folder: Path,
    changes: Changes = (),
    *,
    what: str = "settings",
) -> T:
    """A settings file by name or path, with changes on top, as a ``kind``.

    Parameters
    ----------
    kind
        A frozen dataclass. Fields may be dataclasses or ``dict[str, dataclass]``.
    name
        ``tiny`` means ``tiny.yaml`` in ``folder``; anything with a suffix is a path.
    folder
        Of the files that ship with the project.
    changes
        ``{"max_steps": 2, "reward.map_weight": 0}`` or ``["max_steps=2"]``.
    what
        What the file is, for messages.

    Raises
    ------
    SpacerError
        For a file that is missing or no YAML mapping, an unknown key (with the nearest
        known one), and a value of another type or out of range.
    """
    values = read_yaml(name, folder, what=what)
    apply_changes(values, changes)
    return build(kind, values)


def setting_names(folder: Path) -> list[str]:
    """Names of the files in a folder of settings."""
    return [path.stem for path in listing(folder, "*.yaml")]


def read_yaml(
    name: PathLike,
    folder: Path,
    *,
    what: str = "settings",
    own: Sequence[str] = (),
    below: Sequence[Path] = (),
) -> dict[str, Any]:
    """The mapping of a settings file, ``extends`` followed; see ``load_settings``.

    ``own``: keys that a file does not take over from the one it extends.
    """
    path = Path(name)
    if not path.suffix:
        path = folder / f"{name}.yaml"
        if not path.exists():
            known = setting_names(folder)
            raise SpacerError(
                what,
                kind="settings.no-such-file",
                got=str(name),
                expected=f"a name in {folder.name}/, or a path",
                remedy=nearest(name, known),
            )
    values = parse_yaml(_text(path, what), f"{what} {path}")
    if not isinstance(values, dict):
        raise SpacerError(
            f"{what} {path}",
            kind="settings.no-mapping",
            got=reprlib.repr(values),
            expected="keys and values",
        )
    if "extends" in values:
        base_name = values.pop("extends")
        if not isinstance(base_name, str) or path in below:
            raise SpacerError(
                f"{what} {path}: extends",
                kind="settings.extends",
                got=base_name,
                expected=f"another {what} that does not extend this one",
            )
        base = read_yaml(base_name, folder, what=what, own=own, below=(*below, path))
        for key in own:
            base.pop(key, None)
        values = merged(base, values)
    return values


def _text(path: Path, what: str) -> str:
    """The text of a settings file."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read(MOST_CHARACTERS + 1)  # a device has no end
    except FileNotFoundError as error:
        raise SpacerError(
            f"{what} {path}", kind="settings.no-such-file", got="no such file"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SpacerError(
            f"{what} {path} cannot be read",
            kind="settings.unreadable",
            got=getattr(error, "strerror", None) or error,
            expected="a text in UTF-8",
            remedy=remedy_for(error) if isinstance(error, OSError) else None,
        ) from error


def parse_yaml(text: str, where: str) -> Any:
    """A YAML text's value: plain values only, bounded in size.

    Raises
    ------
    SpacerError
        Naming ``where`` and the line: for text that is no YAML, more than 100,000
        characters or 10,000 values, a tag, and a key that is no text or is there twice.
    """
    if len(text) > MOST_CHARACTERS:
        raise SpacerError(
            where,
            kind="settings.too-large",
            got="more",
            expected=f"{MOST_CHARACTERS} characters at most",
        )
    try:
        return yaml.load(text, _Loader)  # a SafeLoader: plain values, no objects
    except SpacerError as error:
        raise error.inside(where) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpacerError(
            f"{where} is not YAML",
            kind="settings.not-yaml",
            got=" ".join(str(error).split())[:300],
        ) from error


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` put over it; mappings are joined key by key."""
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def apply_changes(values: dict[str, Any], changes: Changes) -> None:
    """Put ``changes`` (see ``load_settings``) into nested ``values``, in place."""
    for key, value in setting_pairs(changes):
        *parents, last = key.split(".")
        level = values
        for name in parents:
            level = level.setdefault(name, {})
            if not isinstance(level, dict):
                raise SpacerError(
                    "setting",
                    kind="settings.no-parts",
                    got=key,
                    expected=f"{name} has no parts",
                )
        level[last] = value


def setting_pairs(changes: Changes) -> list[tuple[str, Any]]:
    """``{key: value}`` or ``["key=value", ...]`` → pairs, values read as YAML."""
    if isinstance(changes, Mapping):
        for key in changes:
            if not isinstance(key, str):
                raise SpacerError(
                    "setting", kind="settings.no-text-key", got=key, expected="a name"
                )
        return list(changes.items())
    pairs = []
    for text in changes:
        key, equals, value = text.partition("=")
        if not equals:
            raise SpacerError(
                "setting", kind="settings.no-value", got=text, expected="key=value"
            )
        pairs.append((key.strip(), parse_yaml(value, f"setting {key.strip()}")))
    return pairs


def build(
    kind: type[T], values: Mapping[str, Any], where: str = "", root: Any = None
) -> T:
    """Nested plain values → a ``kind``, every key and type checked.

    Whole numbers pass as floats; lists pass as tuples. For messages: ``where`` stands
    before keys, and ``root`` is the outermost dataclass.

    Raises
    ------
    SpacerError
        For an unknown key, a missing one, or a value of another type. The remedy for
        a key at the wrong level names its right place.
    """
    root = root or kind
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    hints, names = typing.get_type_hints(kind), [field.name for field in fields]
    for key in values:
        if key not in names:
            places = [path for path in _paths(root) if path.split(".")[-1] == key]
            meant = f"did you mean {' or '.join(places)}?"
            raise SpacerError(
                "unknown setting",
                kind="settings.unknown-key",
                got=f"{where}{key}",
                remedy=meant if places else nearest(key, names),
            )
    for field in fields:
        given = field.name in values
        defaults = (field.default, field.default_factory)
        if not given and defaults == (dataclasses.MISSING, dataclasses.MISSING):
            raise SpacerError(
                f"setting {where}{field.name}",
                kind="settings.missing-key",
                got="nothing",
                expected=f"a value of {where}{field.name}",
            )
    return kind(
        **{k: _value(hints[k], v, f"{where}{k}", root) for k, v in values.items()}
    )


def _paths(kind: Any, where: str = "") -> list[str]:
    """Dotted keys of a dataclass and of the dataclasses in it."""
    found = []
    for name, hint in typing.get_type_hints(kind).items():
        found.append(f"{where}{name}")
        if dataclasses.is_dataclass(hint):
            found += _paths(hint, f"{where}{name}.")
    return found


def _value(hint: Any, value: Any, name: str, root: Any) -> Any:
    """``value`` as ``hint``, or a ``SpacerError``."""
    union = isinstance(hint, types.UnionType)
    kinds = typing.get_args(hint) if union else (hint,)
    if value is None and types.NoneType in kinds:
        return None
    for kind in kinds:
        origin, parts = typing.get_origin(kind), typing.get_args(kind)
        if dataclasses.is_dataclass(kind) and isinstance(value, dict):
            return build(kind, value, f"{name}.", root)  # type: ignore[arg-type]
        if origin is dict and isinstance(value, dict):
            return {
                k: _value(parts[1], v, f"{name}.{k}", root) for k, v in value.items()
            }
        if origin is tuple and parts[1:] == (...,) and isinstance(value, list | tuple):
            return tuple(
                _value(parts[0], v, f"{name}[{i}]", root) for i, v in enumerate(value)
            )
    return _plain_value(kinds, value, name)


def _plain_value(kinds: Sequence[Any], value: Any, name: str) -> Any:
    plain = [typing.get_origin(kind) or kind for kind in kinds]
    if float in plain and int not in plain and type(value) is int:
        value = float(value) if abs(value) < 2**1023 else math.inf
    if tuple in plain and isinstance(value, list):
        return tuple(value)
    if type(value) not in plain and Any not in plain:
        raise SpacerError(
            f"setting {name}",
            kind="settings.wrong-type",
            got=repr(value)[:80],
            expected=" or ".join(_type_name(kind) for kind in plain),
        )
    if type(value) is int and abs(value) >= 2**63:
        raise SpacerError(
            f"setting {name}",
            kind="settings.too-large",
            got=reprlib.repr(value),
            expected="a number of at most 64 bits",
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise SpacerError(
            f"setting {name}",
            kind="settings.not-finite",
            got=value,
            expected="a finite number",
        )
    return value


def _type_name(kind: Any) -> str:
    if kind is types.NoneType:
        return "null"
    if dataclasses.is_dataclass(kind) or kind is dict:
        return "key: value"
    return str(getattr(kind, "__name__", kind))
