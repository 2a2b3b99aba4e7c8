"""``--list``: the settings of a config, the kinds of parts in it and their settings, by the keys that one types.

All of it is read from the classes of the config, so there is no list to maintain. ``fusion.heads`` is a setting,
``fusion`` a kind of parts, ``fusion.attention`` one of them, ``optim`` a section; in ``tasks.NAME`` the user chooses
the name.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from textwrap import shorten, wrap
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic.fields import FieldInfo

from featurestore.shared.command import say, say_table
from featurestore.shared.config import Component, Config, suggest
from featurestore.shared.errors import ConfigError
from featurestore.shared.leaves import short
from featurestore.shared.typed import bounds, choices, typed

WIDTH = 100
"""Characters of a line of text; in a table, of the column with the meaning."""


class Step(NamedTuple):
    """One step from the top of a config to an item: a key, the name of a part, or a name that the user chooses."""

    name: str
    kind: Literal["key", "part", "chosen"] = "key"


CHOSEN = Step("NAME", "chosen")


@dataclass(frozen=True)
class Item:
    """A setting, a section, a kind of parts, or one part of a kind."""

    steps: tuple[Step, ...]
    field: FieldInfo | None = None
    """None for a part."""
    section: type[Config] | None = None
    """The class with the settings below; of a kind the base class of its parts; None for a single value."""

    @property
    def is_part(self) -> bool:
        """Whether it is one part of a kind."""
        return self.steps[-1].kind == "part"

    @property
    def is_kind(self) -> bool:
        """Whether a part is to be chosen by its name."""
        return self.section is not None and Component in self.section.__bases__

    @property
    def name(self) -> str:
        """The last step: of a part its name."""
        return self.steps[-1].name

    @property
    def key(self) -> str:
        """As it is typed, ``fusion.heads``; of a part ``fusion.attention``."""
        return _join(step for step in (*_keys(self.steps[:-1]), self.steps[-1]))

    @property
    def address(self) -> str:
        """The key with the parts that it goes through: ``fusion.attention.heads``."""
        return _join(self.steps)

    @property
    def choice(self) -> tuple[str, str] | None:
        """The kind of parts, by its key, and the part that must be chosen for this key; None if it always exists."""
        parts = [i for i, step in enumerate(self.steps) if step.kind == "part"]
        return (_join(_keys(self.steps[: parts[-1]])), self.steps[parts[-1]].name) if parts else None

    @property
    def meaning(self) -> str:
        """Its docstring; for a section without one here, that of its class."""
        described = self.field.description if self.field else None
        return _text(described or (summary(self.section) if self.section else ""))

    def is_called(self, what: str, chosen: str = CHOSEN.name) -> bool:
        """Return whether ``what`` is its key; with the parts on the way or not, without names that users choose or not.

        Args:
            what: the key.
            chosen: a regular expression of the names that users choose.
        """
        return _called(self.steps, chosen).fullmatch(f".{what}") is not None

    def ends_with(self, what: str) -> bool:
        """Return whether ``what`` is the end of its key or address, or what its kind of parts is called in errors."""
        if self.is_kind and self.section and what == self.section.__name__.lower():
            return True
        return any(f".{name}".endswith(f".{what}") for name in (self.key, self.address))

    def holds(self, other: Item) -> bool:
        """Return whether ``other`` is a setting of this section or part, and not of a part that is chosen in it."""
        inner = other.steps[len(self.steps) :]
        return (*self.steps, *inner) == other.steps and bool(inner) and all(step.kind != "part" for step in inner)


@cache
def _called(steps: tuple[Step, ...], chosen: str) -> re.Pattern[str]:
    """Return what matches the names of `Item.is_called`, each after a dot."""
    pattern = ""
    for number, step in enumerate(steps, 1):
        name = rf"\.(?:{chosen if step is CHOSEN else re.escape(step.name)})"
        on_the_way = step.kind == "part" and number < len(steps)
        pattern += f"(?:{name})?" if on_the_way or step is CHOSEN else name
    return re.compile(pattern)


def _keys(steps: Sequence[Step]) -> list[Step]:
    return [step for step in steps if step.kind != "part"]


def _join(steps: Iterable[Step]) -> str:
    return ".".join(step.name for step in steps)


def _text(docstring: str) -> str:
    return " ".join(docstring.replace("``", "`").split())


def summary(section: type[Config]) -> str:
    """Return the first line of a docstring: of a part or a kind that of its module, which says what it is."""
    docstring = sys.modules[section.__module__].__doc__ if issubclass(section, Component) else None
    return (docstring or section.__doc__ or "").strip().partition("\n")[0]


@cache
def items(schema: type[Config]) -> tuple[Item, ...]:
    """Return everything that can be set in ``schema``, and every part of every kind, in the order of the classes."""
    return tuple(_below(schema, (), (schema,)))


def _below(section: type[Config], steps: tuple[Step, ...], above: tuple[type, ...]) -> Iterator[Item]:
    """Yield the items of a section; a class within itself is not entered again."""
    for name, field in section.model_fields.items():
        key = (*steps, Step(name))
        found = list(_sections(field.annotation))
        if not found:
            yield Item(key, field)
        for inner, kind in found:
            item = Item((*key, *inner), field, kind)
            yield item
            if kind not in above:
                yield from _inside(item, kind, (*above, kind))


def _inside(item: Item, section: type[Config], above: tuple[type, ...]) -> Iterator[Item]:
    if not (item.is_kind and issubclass(section, Component)):
        yield from _below(section, item.steps, above)
        return
    for name in section.names():
        steps = (*item.steps, Step(name, "part"))
        yield Item(steps, section=section.kind(name))
        yield from _below(section.kind(name), steps, above)


def _sections(annotation: Any) -> Iterator[tuple[tuple[Step, ...], type[Config]]]:
    """Yield the sections in a type such as ``Pitch | None``, and the steps to them: ``dict[str, Task]`` has one."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield (), annotation
    origin = get_origin(annotation)
    steps = (CHOSEN,) if isinstance(origin, type) and issubclass(origin, Mapping) else ()
    for inner in get_args(annotation):
        for below, section in _sections(inner):
            yield (*steps, *below), section


def find(every: Sequence[Item], what: str) -> list[Item]:
    """Return those of `items` that ``what`` names: one key, which may be that of several parts of a kind.

    The key may lack its beginning where nothing else ends so: ``lr``, ``kfold``. ``fusion=attention`` is taken as
    ``fusion.attention``, and ``a-b`` as ``a_b``.

    Raises:
        ConfigError: if there is no such key, or several end so.
    """
    wanted = what.replace("=", ".").replace("-", "_")
    found = (
        [item for item in every if item.is_called(wanted)]
        or [item for item in every if item.is_called(wanted, r"[^.]+")]
        or [item for item in every if item.ends_with(wanted)]
    )
    keys = dict.fromkeys(item.key for item in found)
    if len(keys) > 1:
        raise ConfigError(f"{short(what)} can be {', '.join(keys)}: say which one")
    if not found:
        known = dict.fromkeys(name for item in every for name in (item.key, item.address, item.name))
        top = [item.key for item in every if _is_top(item)]
        raise ConfigError(f"nothing is called {short(what)}{suggest(wanted, known, top)}")
    return found


def _is_top(item: Item) -> bool:
    return all(step is CHOSEN for step in item.steps[1:])


def describe(schema: type[Config], what: str) -> list[str]:
    """Return the lines that say all of what ``what`` names: of a kind its parts, of a section or part its settings.

    Raises:
        ConfigError: as `find` does.
    """
    every = items(schema)
    alike: dict[tuple[str, ...], list[Item]] = {}
    for item in find(every, what):
        alike.setdefault((*_block(item), *_inner(item, every)), []).append(item)
    return [line for lines, (item, *_) in alike.items() for line in (lines[0] + _needs(item, every), *lines[1:])]


def _inner(item: Item, every: Sequence[Item]) -> list[str]:
    """Return the lines below the item's own: the parts of a kind, the settings of a section or part."""
    if item.is_kind:
        parts = [other for other in every if other.is_part and other.steps[:-1] == item.steps]
        width = max((len(part.name) for part in parts), default=0)
        return [line for part in parts for line in _wrapped(f"{part.name:<{width}}  {part.meaning}", "  ", width + 4)]
    more = _text((item.section and item.section.__doc__) or "")
    about = _wrapped(more, "    ") if more and more != item.meaning else []
    return [*about, *(line for other in every if item.holds(other) for line in _block(other))]


def _block(item: Item) -> list[str]:
    """Return the lines of an item alone: what it may be, and what it means."""
    if item.field is None:
        values = f"a part, chosen by {'='.join(item.choice or ())}"
    else:
        limits = bounds(item.field.metadata)
        values = "; ".join(filter(None, [", ".join([_type(item), *limits]), _default(item, "default ")]))
    examples = ", ".join(map(typed, (item.field and item.field.examples) or ()))
    known = _wrapped(f"Known: {examples}", "    ") if examples else []
    return [f"{item.key}: {values}", *_wrapped(item.meaning, "    "), *known]


def _needs(item: Item, every: Sequence[Item]) -> str:
    """Return which parts of a kind have such a key with that meaning; empty if all of them do."""
    if item.is_part or not item.choice:
        return ""
    kind = item.choice[0]
    same = [other.choice for other in every if other.key == item.key and _block(other) == _block(item)]
    having = list(dict.fromkeys(choice[1] for choice in same if choice))
    parts = {other.name for other in every if other.is_part and other.choice and other.choice[0] == kind}
    return f"; with {kind}={'|'.join(having)}" if parts > set(having) else ""


def _type(item: Item) -> str:
    of_each = item.section if item.steps[-1] is CHOSEN else item.field and item.field.annotation
    return " | ".join(choices(of_each))


def _default(item: Item, label: str = "") -> str:
    """Return the default as it is typed; empty for a section, whose settings have theirs."""
    if item.field is None or item.field.is_required():
        return "required"
    default = item.field.get_default(call_default_factory=True, validated_data={})
    is_section = isinstance(default, Config) and not isinstance(default, Component)
    return "" if is_section else label + typed(default)


def _wrapped(text: str, indent: str = "", hanging: int | None = None) -> list[str]:
    """Return the lines of a text; those after the first one have ``hanging`` blanks before them."""
    rest = indent if hanging is None else " " * hanging
    return wrap(text, WIDTH, initial_indent=indent, subsequent_indent=rest, break_on_hyphens=False)


def say_list(schema: type[Config], asked: Sequence[str] = ()) -> None:
    """Print the settings at the top and the kinds of parts, or all about those that are ``asked`` for.

    Raises:
        ConfigError: as `find` does, before anything is printed.
    """
    if not asked:
        _say_top(items(schema))
    for line in [line for what in asked for line in describe(schema, what)]:
        say(line)


def _say_top(every: Sequence[Item]) -> None:
    top = [item for item in every if _is_top(item) and not item.is_kind]
    say_table(("setting", "default", "meaning"), map(_row, top))
    kinds = {item.key: item for item in every if item.is_kind}
    if kinds:
        say()
        say_table(("kind", "default", "parts"), [(key, _default(kind), _type(kind)) for key, kind in kinds.items()])
    say()
    say("KEY=VALUE sets it; --list KEY says more of a setting, a section (more settings), a kind of parts, or a part.")


def _row(item: Item) -> tuple[str, str, str]:
    default = shorten(_default(item), WIDTH // 3, placeholder=" …")
    return item.key, default, shorten(item.meaning, WIDTH, placeholder=" …")
