"""Drop the damaged parts of a store, so that they can be extracted again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from featurestore.access.store import Store
from featurestore.access.writer import StoreWriter
from featurestore.operations.verify import Damage, verify
from featurestore.shared.config import suggest
from featurestore.shared.errors import StoreError


def repair(
    path: str, drop: Sequence[str] = (), report: Callable[[float, float], None] = lambda *_: None
) -> list[Damage]:
    """Finish an interrupted change, and drop every shard that is damaged, so that extraction makes it again.

    Args:
        path: of the store.
        drop: features to drop whole, damaged or not. A feature whose plan is damaged must be, since nothing else says
            where its frames are.
        report: told how many bytes have been read, and of how many.

    Returns:
        The damage that was found, and dropped.

    Raises:
        StoreError: if the table is damaged, or the plan of a feature that is not to be dropped, or if something cannot
            be read, and so may be whole. Nothing is dropped then.
    """
    writer = StoreWriter(path)
    if not (writer.backend.exists() or writer.backend.interrupted()):
        raise StoreError(f"no store at {path}; ser-extract makes one")
    with writer.lock() if writer.backend.begun() else writer.change_at_once():
        store = Store(path, partial=True)
        drop = list(dict.fromkeys(drop))
        for feature in drop:
            if feature not in store.backend.features():
                raise StoreError(f"{path} has no feature {feature!r}{suggest(feature, store.backend.features())}")
        damages = verify(store, report)
        shards: dict[str, set[int]] = {}
        for damage in damages:
            if damage.feature not in drop:
                feature, shard = _droppable(damage, path)
                shards.setdefault(feature, set()).add(shard)
        for feature in drop:
            writer.drop(feature, None)
        for feature, numbers in shards.items():
            writer.drop(feature, numbers)
    return damages


def _droppable(damage: Damage, path: str) -> tuple[str, int]:
    """Return the feature and the shard that are to be dropped.

    Raises:
        StoreError: if dropping a shard does not repair the damage.
    """
    if damage.unreadable:
        hint = "nothing was dropped: make it readable, or delete it and repair again"
    elif damage.feature is None:
        hint = "this cannot be repaired: extract into a new store"
    elif damage.shard is None:
        hint = (
            f"nothing was dropped: ser-store repair {path} --drop {damage.feature} drops all of it, to extract it again"
        )
    else:
        return damage.feature, damage.shard
    raise StoreError(f"{damage.place}: {damage.problem}; {hint}")
