"""Configs: YAML files and dotted overrides in, validated objects out.

A section is a `Config`. A section whose kind is chosen by name is a `Component`: each module in the
folder of its base class is one kind, and the module's name is its name in YAML and on the command line.

    load(TrainConfig, ["configs/train/demo.yaml"], ["optim.lr=3e-4", "fusion=concat"])
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo

from featurestore.errors import ConfigError

C = TypeVar("C", bound="Config")
Tree = dict[str, Any]


class Config(BaseModel):
    """A section of a config: immutable, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _settings_of_default(cls, values: Any) -> Any:
        """Take settings without a name as those of the default part."""
        if not isinstance(values, dict):
            return values
        defaults = {key: _default_part(field) for key, field in cls.model_fields.items()}
        return {
            key: {"name": defaults[key], **value} if defaults.get(key) and isinstance(value, dict) else value
            for key, value in values.items()
        }

    def to_dict(self) -> Tree:
        """Return every setting, defaults included, as plain YAML values."""
        return self.model_dump(mode="json", serialize_as_any=True)


class Component(Config):
    """A section that names one of the modules beside its base class, and sets it up."""

    @property
    def name(self) -> str:
        """The name of the part, which is the name of its module."""
        return type(self).__module__.rpartition(".")[2]

    @classmethod
    def names(cls) -> list[str]:
        """Return the names that this kind of component can take."""
        package = importlib.import_module(cls.__module__)
        modules = pkgutil.iter_modules(package.__path__)
        return sorted(m.name for m in modules if not m.name.startswith("_"))

    @classmethod
    def kind(cls, name: str) -> type[Self]:
        """Return the component that the module ``name`` of this folder defines; ``a-b`` finds ``a_b``.

        Raises:
            ValueError: if there is no such module.
        """
        name = name.replace("-", "_")
        if name not in cls.names():
            raise ValueError(f"no {cls.__name__.lower()} {name!r}{suggest(name, cls.names())}")
        module = importlib.import_module(f"{cls.__module__}.{name}")
        own = (k for k in vars(module).values() if isinstance(k, type) and k.__module__ == module.__name__)
        (kind,) = (k for k in own if issubclass(k, cls))
        return kind

    @model_validator(mode="wrap")
    @classmethod
    def _choose(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(value, cls):
            return handler(value)
        if not isinstance(value, str | dict):
            raise ValueError(f"expected the name of a {cls.__name__.lower()} or its settings, found {value!r}")
        settings = {"name": value} if isinstance(value, str) else dict(value)
        if Component in cls.__bases__:
            return cls.kind(str(settings.pop("name", None))).model_validate(settings)
        if settings.pop("name", part := cls.__module__.rpartition(".")[2]) != part:
            raise ValueError(f"expected the settings of {part}, found those of {value}")
        return handler(settings)

    @model_serializer(mode="wrap")
    def _with_name(self, handler: SerializerFunctionWrapHandler) -> Tree:
        return {"name": self.name, **handler(self)}


def suggest(word: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown ``word``: the nearest known one, or all of them.

    >>> suggest("concta", ["attention", "concat"])
    "; did you mean 'concat'?"
    """
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(known)}"


def load(schema: type[C], files: Iterable[str | Path] = (), overrides: Iterable[str] = ()) -> C:
    """Return ``schema`` filled from YAML ``files``, then from ``key.sub=value`` overrides, the last one wins.

    Raises:
        ConfigError: naming every unknown key and unusable value, and where each came from.
    """
    tree: Tree = {}
    origin: dict[str, str] = {}
    for file in files:
        for key, value in _leaves(_read_yaml(Path(file))):
            _place(tree, key, value)
            origin[key] = str(file)
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(f"override {item!r} is not of the form key.sub=value")
        _place(tree, key, _parse_value(value, item))
        origin[key] = f"override {item!r}"
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        lines = dict.fromkeys(_explain(schema, tree, problem, origin) for problem in error.errors())
        raise ConfigError("\n".join(lines)) from None


def _read_yaml(file: Path) -> Tree:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise ConfigError(f"no config file {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the config file {file} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{file} holds a {type(values).__name__}, expected keys with values")
    return values


def _parse_value(text: str, item: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"override {item!r}: {text!r} is not a YAML value") from None


def _place(tree: Tree, key: str, value: Any) -> None:
    """Set the dotted ``key`` of ``tree``; a bare component name becomes its section."""
    *sections, last = key.split(".")
    for section in sections:
        if not isinstance(tree.get(section), dict):
            named = tree.get(section)
            tree[section] = {"name": named} if isinstance(named, str) else {}
        tree = tree[section]
    if last == "name" and tree.get("name", value) != value:
        tree.clear()  # the settings of another part do not carry over
    there = tree.get(last)
    if isinstance(there, dict) and (value == {} or there.get("name", value) == value):
        there.update({"name": value} if value else {})  # the part that is there already keeps its settings
    else:
        tree[last] = value


def _leaves(values: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and value of everything in ``values`` that is not a section."""
    for key, value in sorted(values.items(), key=lambda item: item[0] != "name"):  # a part before its settings
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _explain(schema: type[BaseModel], tree: Tree, problem: Any, origin: dict[str, str]) -> str:
    """Return one line for one problem: where the value came from, the key, what is wrong."""
    loc = [str(part) for part in problem["loc"]]
    key = ".".join(loc)
    nearest = max(
        (k for k in origin if key == k or key.startswith(f"{k}.") or k.startswith(f"{key}.")), key=len, default=""
    )
    source = origin.get(nearest, "config")
    if problem["type"] == "extra_forbidden":
        keys = list(_keys(schema, tree))
        same_end = [k for k in keys if k.endswith(f".{loc[-1]}")]
        hint = f"; did you mean {same_end[0]!r}?" if same_end and key not in keys else suggest(key, keys)
        return f"{source}: unknown key {key!r}{hint}"
    if problem["type"] == "missing":
        return f"{source}: {key} is missing; it has no default"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{source}: {key}: {message}" if key else f"{source}: {message}"


def _keys(schema: type[BaseModel], tree: Any, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key that ``schema`` takes, given the kinds of component chosen in ``tree``."""
    tree = tree if isinstance(tree, dict) else {"name": tree}
    if Component in schema.__bases__:
        try:
            schema = schema.kind(str(tree.get("name")))  # type: ignore[attr-defined]
        except ValueError:
            return
    for key, field in schema.model_fields.items():
        yield f"{prefix}{key}"
        for section in (field.annotation, *get_args(field.annotation)):
            if isinstance(section, type) and issubclass(section, Config):
                chosen = tree.get(key)
                if not isinstance(chosen, str):
                    chosen = {"name": _default_part(field), **(chosen if isinstance(chosen, dict) else {})}
                yield from _keys(section, chosen, f"{prefix}{key}.")


def _default_part(field: FieldInfo) -> str | None:
    default = field.get_default(call_default_factory=True, validated_data={})
    return default.name if isinstance(default, Component) else None
