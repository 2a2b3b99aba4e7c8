"""Extract like another store: with its encoder, its features and all of their settings.

The settings come from the provenance of its features. What they do not determine, such as the hash of the weights, is
compared before anything is extracted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import featurestore
from featurestore.format.plan import FeatureSpec
from featurestore.shared.errors import SerError

if TYPE_CHECKING:
    from extract.features import Extractor

FOUND = ("weights", "tokenizer")
"""What settings do not determine: it must be as in the store, whatever settings are given."""
Specs = dict[str, FeatureSpec]


def specs_of(store: str) -> dict[str, Specs]:
    """Return the features of a store, finished or not, by kind (``encoder``, ``pitch`` …) and by their names in it.

    Raises:
        SerError: if there is no store, or it does not say how its features were computed.
    """
    found: dict[str, Specs] = {}
    for key, feature in featurestore.open(store).parts.items():
        spec = feature.spec
        part = spec.provenance.get("settings", {}).get("name")
        if not isinstance(part, str):
            raise SerError(f"{store} does not say how its feature {key} was computed: it has no settings")
        found.setdefault(part, {})[key] = spec
    return found


def settings_like(store: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given settings, completed by those of the features of a store.

    Args:
        store: a path or a URL.
        given: settings by kind of feature; None deselects a kind.

    Raises:
        SerError: if the store has two features of one kind, or was made with a checkpoint that does not exist here.
    """
    from extract.features import Feature

    settings = dict(given)
    for part, specs in specs_of(store).items():
        if part not in Feature.names():
            raise SerError(f"{store} has features of the kind {part}: expected {', '.join(Feature.names())}")
        settings[part] = _settings(store, part, specs, given.get(part, {}))
    return settings


def _settings(store: str, part: str, specs: Specs, own: Any) -> Any:
    """Return the settings of a kind of feature, completed by those of a store; invalid ones are refused later."""
    if not isinstance(own, dict):
        return own
    agreeing = [spec for key, spec in specs.items() if len(specs) == 1 or _agrees(key, spec, own)]
    if len(agreeing) != 1:
        how = "--encoder NAME" if part == "encoder" else f"{part}.SETTING=VALUE"
        raise SerError(f"{store} has {part} features {', '.join(specs)}: say which one with {how}")
    return {**_recorded(store, part, agreeing[0], own), **own}


def _agrees(key: str, spec: FeatureSpec, own: Mapping[str, Any]) -> bool:
    """Return whether a stored feature has the given settings; a checkpoint has the name of its feature."""
    recorded = spec.provenance["settings"]
    named = "checkpoint" not in own or os.path.basename(os.path.abspath(str(own["checkpoint"]))) == key
    return named and all(recorded[name] == value for name, value in own.items() if name in {*recorded} - {"checkpoint"})


def _recorded(store: str, part: str, spec: FeatureSpec, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a stored feature as users give them."""
    from extract.features import Feature

    fields = Feature.kind(part).model_fields
    recorded = spec.provenance["settings"]
    settings = {key: value for key, value in recorded.items() if key in fields and key != "checkpoint"}
    if settings.get("overlap", 0) is None:  # nothing was cut into windows
        del settings["overlap"]
    settings |= {"dtype": spec.dtype, "compress": spec.compress}
    if "checkpoint" in recorded and "checkpoint" not in own:
        settings |= _checkpoint(store, recorded["checkpoint"], spec.provenance)
    return settings


def _checkpoint(store: str, name: str, provenance: Mapping[str, Any]) -> dict[str, Any]:
    from extract.encoders.checkpoint import known

    place = provenance.get("id")
    entry = known().get(name)
    if entry and place in (None, entry.id):
        revision = provenance.get("revision") if entry.revision else None
        return {"checkpoint": name, "revision": revision}
    if place and os.path.isdir(place):
        return {"checkpoint": place}
    raise SerError(
        f"{store} was made with the checkpoint {name} in {place or 'a folder'}, which does not exist here: say where "
        "it is with --encoder DIR (for a text encoder text.checkpoint=DIR); the folder must have the same name"
    )


def compare(store: str, extractors: Mapping[str, Extractor]) -> list[str]:
    """Return how features differ from those of a store because other settings are given.

    Raises:
        SerError: if one differs from the store's for another reason, e.g. in its weights.
    """
    unlike = []
    for part, specs in specs_of(store).items():
        for key, extractor in extractors.items():
            if extractor.feature.name == part:
                there = specs.get(key) or next(iter(specs.values()))
                differences = there.differences(extractor.spec())
                asked = _asked_otherwise(there, extractor)
                bad = [one for one in differences if one.startswith(FOUND) or not asked]
                if bad:
                    raise SerError(f"{key} differs from the one in {store}: {'; '.join(bad)}")
                unlike += [f"{key} differs from the one in {store}: {one}" for one in differences]
    return unlike


def _asked_otherwise(spec: FeatureSpec, extractor: Extractor) -> bool:
    """Return whether any setting of a feature differs from that in a store."""
    recorded = {**spec.provenance["settings"], "dtype": spec.dtype, "compress": spec.compress}
    asked = {**extractor.settings(), "dtype": extractor.feature.dtype, "compress": extractor.feature.compress}
    return any(asked[key] != recorded[key] for key in asked.keys() & recorded.keys() if key not in FOUND)
