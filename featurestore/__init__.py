"""The keyed store of frame-level features that both stages stand on: ``featurestore.open(path)``."""

from featurestore.codec import Frames
from featurestore.errors import SerError, StoreError
from featurestore.plan import FeaturePlan, FeatureSpec, Plan
from featurestore.store import Store, Utterance, open  # noqa: A004, featurestore.open is the field's word
from featurestore.writer import StoreWriter

__all__ = [
    "FeaturePlan",
    "FeatureSpec",
    "Frames",
    "Plan",
    "SerError",
    "Store",
    "StoreError",
    "StoreWriter",
    "Utterance",
    "open",
]
