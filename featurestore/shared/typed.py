"""Values and types of settings as one types them: on the command line, and in YAML."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from featurestore.shared.config import Component, Config

TYPES = {
    bool: "true | false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    NoneType: "null",
    Any: "anything",
}
"""What types are called."""
BOUNDS = {
    "gt": "> {}",
    "ge": ">= {}",
    "lt": "< {}",
    "le": "<= {}",
    "multiple_of": "a multiple of {}",
    "min_length": "length >= {}",
    "max_length": "length <= {}",
    "pattern": "of the form {}",
}
"""Constraints by their names in pydantic."""


def typed(value: Any) -> str:
    """Return a value as it is typed; a part by its name.

    >>> typed(("V", "A")), typed(None), typed(1e-7), typed({"V": 2.0})
    ('[V, A]', 'null', '1e-07', '{V: 2.0}')
    """
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    plain = to_jsonable_python(_named(value))
    text = yaml.safe_dump(plain, default_flow_style=True, width=sys.maxsize, allow_unicode=True, sort_keys=False)
    return str(text.strip().removesuffix("\n..."))


def _named(value: Any) -> Any:
    """Return a value with the names of parts in their place."""
    if isinstance(value, Config):
        return value.name if isinstance(value, Component) else value.to_dict()
    if isinstance(value, Mapping):
        return {key: _named(inner) for key, inner in value.items()}
    return [_named(inner) for inner in value] if isinstance(value, list | tuple) else value


def choices(annotation: Any) -> list[str]:
    """Return the values that a type allows, or what they are called.

    >>> choices(int | None), choices(tuple[float, float]), choices(Literal["ac", True])
    (['whole number', 'null'], ['[number, number]'], ['ac', 'true'])
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return [typed(value) for value in inner]
    if origin in (Union, UnionType):
        return [choice for kind in inner for choice in choices(kind)]
    if origin is Annotated:
        return [", ".join([" | ".join(choices(inner[0])), *bounds(inner[1:])])]
    if isinstance(origin, type) and issubclass(origin, Mapping) and inner:
        return [f"{{{': '.join(' | '.join(choices(kind)) for kind in inner)}}}"]
    if isinstance(origin, type) and issubclass(origin, Sequence) and inner:
        return [f"[{', '.join('…' if kind is ... else ' | '.join(choices(kind)) for kind in inner)}]"]
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return annotation.names() if Component in annotation.__bases__ else ["settings"]  # type: ignore[attr-defined]
    return [TYPES.get(annotation) or str(getattr(annotation, "__name__", annotation))]


def bounds(metadata: Iterable[Any]) -> list[str]:
    """Return the constraints of a field, or of a type with annotations, as text.

    >>> bounds(FieldInfo(gt=0, le=1e30).metadata)
    ['> 0', '<= 1e+30']
    """
    flat = [one for data in metadata for one in (data.metadata if isinstance(data, FieldInfo) else [data])]
    limits = ((form, getattr(one, name, None)) for one in flat for name, form in BOUNDS.items())
    return [
        form.format(limit if isinstance(limit, str) else typed(limit)) for form, limit in limits if limit is not None
    ]
