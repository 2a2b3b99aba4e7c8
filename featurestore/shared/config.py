"""Configs: YAML files and dotted overrides in, validated objects out.

A section is a `Config`. A section whose kind is chosen by name is a `Component`: each module in the
folder of its base class is one kind, and the module's name is its name in YAML and on the command line.

    load(TrainConfig, ["configs/train/demo.yaml"], ["optim.lr=3e-4", "fusion=concat"])
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo

from featurestore.shared.errors import ConfigError
from featurestore.shared.leaves import Leaf, leaves, short

C = TypeVar("C", bound="Config")
Tree = dict[str, Any]


class UnknownPartError(ValueError):
    """There is no part of that name."""


class Config(BaseModel):
    """A section of a config: immutable, closed to unknown keys, and to numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _settings_of_default(cls, values: Any) -> Any:
        """Take settings without a name for those of the default part."""
        if not isinstance(values, dict):
            return values
        defaults = {key: _default_part(field) for key, field in cls.model_fields.items()}
        return {
            key: {"name": defaults[key], **value} if defaults.get(key) and isinstance(value, dict) else value
            for key, value in values.items()
        }

    @field_validator("*", mode="before")
    @classmethod
    def _as_meant(cls, value: Any, info: ValidationInfo) -> Any:
        """Take one name or part for a list of one, and no truth value for a number."""
        kinds = _kinds(cls.model_fields[info.field_name or ""].annotation)
        lists = [kind for kind in kinds if get_origin(kind) is tuple and get_args(kind)[1:] == (...,)]
        if isinstance(value, bool) and bool not in kinds and {int, float} & set(kinds):
            raise ValueError(f"expected a number, found {value}")
        if isinstance(value, str) and lists and str not in kinds:
            return (value,)
        return value

    def to_dict(self) -> Tree:
        """Return every setting, defaults included, as plain YAML values."""
        return self.model_dump(mode="json", serialize_as_any=True)


class Component(Config):
    """A section that chooses a part, one of the modules beside its base class, and holds its settings."""

    @property
    def name(self) -> str:
        """The name of the part, which is the name of its module."""
        return type(self).__module__.rpartition(".")[2]

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the parts of this kind."""
        package = importlib.import_module(cls.__module__)
        modules = pkgutil.iter_modules(package.__path__)
        return sorted(m.name for m in modules if not m.name.startswith("_"))

    @classmethod
    def kind(cls, name: str) -> type[Self]:
        """Return the class in the module ``name`` of this folder; ``a-b`` finds ``a_b``.

        Raises:
            UnknownPartError: if there is no such module.
            ConfigError: if it cannot be imported, or does not have one such class.
        """
        name = name.replace("-", "_")
        if name not in cls.names():
            raise UnknownPartError(f"no {cls.__name__.lower()} {short(name)}{suggest(name, cls.names())}")
        try:
            module = importlib.import_module(f"{cls.__module__}.{name}")
        except Exception as error:
            raise ConfigError(f"the {cls.__name__.lower()} {name} cannot be imported: {_where(error)}") from error
        own = (k for k in vars(module).values() if isinstance(k, type) and k.__module__ == module.__name__)
        kinds = [k for k in own if issubclass(k, cls)]
        if len(kinds) != 1:
            found = ", ".join(k.__name__ for k in kinds) or "none"
            raise ConfigError(f"{module.__file__}: expected one class that derives from {cls.__name__}, found {found}")
        return kinds[0]

    @model_validator(mode="wrap")
    @classmethod
    def _choose(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(value, cls):
            return handler(value)
        what = cls.__name__.lower()
        if not isinstance(value, str | dict):
            raise ValueError(f"expected the name of a {what} or its settings, found {short(value)}")
        settings = {"name": value} if isinstance(value, str) else dict(value)
        if Component in cls.__bases__ and "name" not in settings:
            raise UnknownPartError(f"expected its name, one of {', '.join(cls.names())}")
        name = settings.pop("name", part := cls.__module__.rpartition(".")[2])
        if not isinstance(name, str):
            raise UnknownPartError(f"expected the name of a {what}, found {short(name)}")
        if Component in cls.__bases__:
            return cls.kind(name).model_validate(settings)
        if name.replace("-", "_") != part:
            raise UnknownPartError(f"expected the settings of {part}, found those of {short(name)}")
        return handler(settings)

    @model_serializer(mode="wrap")
    def _with_name(self, handler: SerializerFunctionWrapHandler) -> Tree:
        return {"name": self.name, **handler(self)}


def _where(error: Exception) -> str:
    """Return what an import raised, and the line that raised it."""
    if isinstance(error, SyntaxError):
        return f"{error.msg} ({error.filename}, line {error.lineno})"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({last.filename}, line {last.lineno})"


def suggest(word: str, known: Iterable[str], expected: Iterable[str] | None = None) -> str:
    """Return the end of a message about an unknown ``word``: the nearest known word, or all that are expected.

    Args:
        word: that is unknown.
        known: the words that it may be a misspelling of.
        expected: the words to name if none is near; all that are known when absent.

    >>> suggest("concta", ["attention", "concat"])
    "; did you mean 'concat'?"
    """
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(expected or known)}"


class _Section(dict[str, "_Section | Leaf"]):
    """Values by key, and the last file or override that set one of them."""

    def __init__(self, values: dict[str, _Section | Leaf], source: str) -> None:
        super().__init__(values)
        self.source = source


_Node = _Section | Leaf


def load(schema: type[C], files: Iterable[str | Path] = (), overrides: Iterable[str] = ()) -> C:
    """Return ``schema`` filled from YAML ``files``, then from ``key.sub=value`` overrides.

    Values are set one after another, and the last one wins. ``null`` removes what can be absent, ``{}`` asks for a
    section with its default settings, and naming another part discards the settings of the one before.

    Raises:
        ConfigError: naming every unknown key and unusable value, and where each came from.
    """
    tree: _Node = _Section({}, "config")
    try:
        for path, leaf in leaves(files, overrides):
            tree = _put(tree, path, leaf, schema)
        plain = _plain(tree)
        return schema.model_validate(plain)
    except RecursionError:
        raise ConfigError(f"{leaf.source}: nested too deeply") from None
    except ValidationError as error:
        lines = dict.fromkeys(_explain(schema, plain, tree, problem) for problem in error.errors())
        raise ConfigError("\n".join(line.replace("\n", r"\n") for line in lines)) from None


def _put(there: _Node | None, path: tuple[str, ...], leaf: Leaf, annotation: Any, default: str | None = None) -> _Node:
    """Return what is ``there`` with a leaf at ``path`` below it.

    Args:
        there: a section of the tree, if there is one yet.
        path: of the leaf below it; empty if the leaf replaces it.
        leaf: to put.
        annotation: the type of ``there`` in the schema.
        default: the name of the part that it is by default.
    """
    of_names = get_origin(annotation) is dict  # settings by names that users give
    section = None if of_names else _config_in(annotation)
    if not path and isinstance(leaf.value, str) and section and issubclass(section, Component):
        path = ("name",)
    if not path and leaf.value != {}:
        return leaf
    values = dict(there) if isinstance(there, _Section) else {}
    if path:
        key, *below = path
        if path == ("name",) and section and Component in section.__bases__:
            values = _of_part(values, leaf.value, section, default)
        kind = _kind(section, values, default)
        field = kind.model_fields.get(key) if kind else None
        inner = (field.annotation, _default_part(field)) if field else (None, None)
        inner = (get_args(annotation)[1], None) if of_names else inner
        values[key] = _put(values.get(key), tuple(below), leaf, *inner)
        if of_names and not below and leaf.value is None:
            del values[key]
    return _Section(values, leaf.source)


def _of_part(values: dict[str, _Node], name: Any, section: type[Config], default: str | None) -> dict[str, _Node]:
    """Return those of ``values`` that are kept when a part is named: all if it is the same part, otherwise none.

    If no part was named before, the values that are not settings of the default part alone are kept.
    """
    before, after = _kind(section, values, default), _part(section, name)
    if before is after:
        return values
    if "name" in values:
        return {}
    known, gone = (set(kind.model_fields) if kind else set() for kind in (after, before))
    return {key: value for key, value in values.items() if key in known or key not in gone}


def _kind(section: type[Config] | None, values: dict[str, _Node], default: str | None) -> type[Config] | None:
    """Return the class with the fields of a section that has these values, if that is known."""
    if section is None or Component not in section.__bases__:
        return section
    name = values["name"] if "name" in values else Leaf(default, "")
    return _part(section, name.value if isinstance(name, Leaf) else None)


def _part(base: type[BaseModel], name: Any) -> type[Config] | None:
    """Return the part of that name, if there is one."""
    try:
        return base.kind(name) if isinstance(name, str) else None  # type: ignore[attr-defined]
    except UnknownPartError:
        return None


def _config_in(annotation: Any) -> type[Config] | None:
    """Return the section that an annotation allows, such as ``Pitch`` of ``Pitch | None``."""
    kinds = (kind for kind in _kinds(annotation) if isinstance(kind, type))
    return next((kind for kind in kinds if issubclass(kind, Config)), None)


def _kinds(annotation: Any) -> tuple[Any, ...]:
    """Return an annotation and what it is made of: ``A | None``, ``A`` and ``None``."""
    return annotation, *get_args(annotation)


def _plain(node: _Node) -> Any:
    return {key: _plain(inner) for key, inner in node.items()} if isinstance(node, _Section) else node.value


def _explain(schema: type[BaseModel], values: Tree, tree: _Node, problem: Any) -> str:
    """Return one line for one problem: where the value came from, the key, what is wrong."""
    loc = [str(part) for part in problem["loc"]]
    key = ".".join(loc)
    if isinstance(problem.get("ctx", {}).get("error"), UnknownPartError):
        loc.append("name")
    source = _source(tree, loc)
    if problem["type"] == "extra_forbidden":
        keys = list(_keys(schema, values))
        same_end = [k for k in keys if k.endswith(f".{loc[-1]}")]
        hint = f"; did you mean {same_end[0]!r}?" if same_end and key not in keys else suggest(key, keys)
        return f"{source}: unknown key {short(key)}{hint}"
    if problem["type"] == "missing":
        return f"{source}: {key} is missing; it has no default"
    return f"{source}: {key}: {_complaint(problem)}" if key else f"{source}: {_complaint(problem)}"


def _source(node: _Node, loc: Iterable[str]) -> str:
    for key in loc:
        if not isinstance(node, _Section) or key not in node:
            break
        node = node[key]
    return node.source


def _complaint(problem: Any) -> str:
    if problem["input"] is None:
        return "it cannot be null: give a value, or leave it out"
    if problem["type"] == "value_error":
        return str(problem["msg"].removeprefix("Value error, "))
    if problem["type"] == "model_type":
        return f"expected settings, each with its key, found {short(problem['input'])}"
    if problem["type"] in ("tuple_type", "list_type"):
        return f"expected a list in brackets, found {short(problem['input'])}"
    return f"{problem['msg']}, found {short(problem['input'])}"


def _keys(schema: type[BaseModel], values: Any, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key that ``schema`` takes, given the kinds of component that ``values`` choose."""
    kind = _part(schema, values.get("name")) if Component in schema.__bases__ else schema
    for key, field in kind.model_fields.items() if kind else ():
        yield f"{prefix}{key}"
        section, chosen = _config_in(field.annotation), values.get(key)
        if section and get_origin(field.annotation) is dict:  # of settings by names that users give
            for name, of in {"NAME": {}, **(chosen if isinstance(chosen, dict) else {})}.items():
                yield from _keys(section, of if isinstance(of, dict) else {}, f"{prefix}{key}.{name}.")
        elif section:
            default = {"name": _default_part(field)}
            yield from _keys(section, {**default, **(chosen if isinstance(chosen, dict) else {})}, f"{prefix}{key}.")


def _default_part(field: FieldInfo) -> str | None:
    default = field.get_default(call_default_factory=True, validated_data={})
    return default.name if isinstance(default, Component) else None
