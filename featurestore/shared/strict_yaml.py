"""Strict YAML: no key may occur twice, and a small text cannot expand to a large value."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain
from typing import Any

import yaml

from featurestore.shared.errors import MALFORMED

MOST_VALUES = 10_000
"""The most values in one text; an alias (``*``) counts as what it stands for."""


def parse(text: str) -> Any:
    """Return the value of a YAML text.

    Raises:
        ValueError: with the problem in one line, if it is not YAML, a key occurs twice, or it has too many values.

    >>> parse("{lr: 1e-3, epochs: 3}")
    {'lr': '1e-3', 'epochs': 3}
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    except RecursionError:
        problem = "it is nested too deeply"
    except yaml.MarkedYAMLError as error:
        problem = f"{error.problem}{f', line {error.problem_mark.line + 1}' if error.problem_mark else ''}"
    except (yaml.YAMLError, *MALFORMED) as error:  # the latter from such as 2024-13-45, or !!bool x
        problem = str(error)
    raise ValueError(" ".join(problem.split()))


def _count(node: yaml.Node, known: dict[int, float]) -> float:
    """Return how many values ``node`` stands for.

    Args:
        node: to count.
        known: the counts of nodes that were counted before.
    """
    if id(node) not in known:
        known[id(node)] = math.inf  # what is inside itself has no end
        known[id(node)] = 1 + sum(_count(part, known) for part in _parts(node))
    if known[id(node)] > MOST_VALUES:
        raise yaml.MarkedYAMLError(problem=f"it has more than {MOST_VALUES} values", problem_mark=node.start_mark)
    return known[id(node)]


def _parts(node: yaml.Node) -> Iterable[yaml.Node]:
    """Return the nodes directly inside ``node``; a key that occurs twice is an error."""
    if not isinstance(node, yaml.MappingNode):
        return node.value if isinstance(node, yaml.SequenceNode) else ()
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
            raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} is there twice", problem_mark=key.start_mark)
        seen.add((key.tag, str(key.value)))
    return chain.from_iterable(node.value)
