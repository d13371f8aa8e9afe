"""A mapping that never changes, of which a changed one is made at the cost of what changes.

What two of them have in common they share, so that their difference is found without looking at
the rest: entries are in buckets, and a change copies the bucket it falls into.
"""

from __future__ import annotations

from collections.abc import Hashable, ItemsView, Iterator, Mapping, ValuesView
from itertools import chain, compress
from operator import is_not
from typing import Any, Final, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", covariant=True)

_BUCKETS = 256
_LAST = _BUCKETS - 1


class _Gone:
    """The type of `GONE`."""


GONE: Final = _Gone()
"""In the place of a value: the key is to be there no more."""


class Persistent(Mapping[K, V]):
    """A mapping in no order. Equal to every mapping with the same entries."""

    __slots__ = ("_buckets", "_size")

    def __init__(self, entries: Mapping[K, V] | None = None) -> None:
        self._buckets: tuple[dict[K, V], ...] = _EMPTY
        self._size = 0
        if entries:
            made: list[dict[K, V]] = [{} for _ in range(_BUCKETS)]
            for key, value in entries.items():
                made[hash(key) & _LAST][key] = value
            self._buckets = tuple(made)
            self._size = len(entries)

    def __getitem__(self, key: K) -> V:
        return self._buckets[hash(key) & _LAST][key]

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of a key, or the default."""
        return self._buckets[hash(key) & _LAST].get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._buckets[hash(key) & _LAST]

    def __iter__(self) -> Iterator[K]:
        return chain.from_iterable(self._buckets)

    def __len__(self) -> int:
        return self._size

    def items(self) -> ItemsView[K, V]:
        """Its keys and values."""
        return _Items(self)

    def values(self) -> ValuesView[V]:
        """Its values."""
        return _Values(self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Persistent):
            return self._size == other._size and self._buckets == other._buckets
        if isinstance(other, Mapping):
            return dict(self.items()) == dict(other.items())
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Persistent({dict(self.items())!r})"

    def changed(self, changes: Mapping[K, Any]) -> Persistent[K, V]:
        """The mapping with these values, and without the keys whose value is `GONE`."""
        buckets = list(self._buckets)
        size = self._size
        if len(changes) == 1:
            for key, value in changes.items():
                place = hash(key) & _LAST
                buckets[place], grown = _changed(buckets[place].copy(), key, value)
                size += grown
        else:
            own: set[int] = set()
            for key, value in changes.items():
                place = hash(key) & _LAST
                if place not in own:
                    own.add(place)
                    buckets[place] = buckets[place].copy()
                size += _changed(buckets[place], key, value)[1]
        made: Persistent[K, V] = Persistent.__new__(Persistent)
        made._buckets = tuple(buckets)
        made._size = size
        return made


def _changed(bucket: dict[Any, Any], key: Any, value: Any) -> tuple[dict[Any, Any], int]:
    """Change a bucket; it, and by how much it has grown."""
    before = len(bucket)
    if value is GONE:
        bucket.pop(key, None)
    else:
        bucket[key] = value
    return bucket, len(bucket) - before


class _Items(ItemsView[K, V]):
    def __init__(self, mapping: Persistent[K, V]) -> None:
        super().__init__(mapping)
        self._buckets = mapping._buckets

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return chain.from_iterable(bucket.items() for bucket in self._buckets)


class _Values(ValuesView[V]):
    def __init__(self, mapping: Persistent[K, V]) -> None:
        super().__init__(mapping)
        self._buckets = mapping._buckets

    def __iter__(self) -> Iterator[V]:
        return chain.from_iterable(bucket.values() for bucket in self._buckets)


_EMPTY: tuple[dict[Any, Any], ...] = ({},) * _BUCKETS


def persistent(entries: Mapping[K, V]) -> Persistent[K, V]:
    """A mapping as one that can be changed at little cost; itself, if it is one."""
    return entries if isinstance(entries, Persistent) else Persistent(entries)


def differing(one: Mapping[K, Any], other: Mapping[K, Any]) -> list[K]:
    """The keys that two mappings do not have in common with the same value, each once."""
    if one is other:
        return []
    if isinstance(one, Persistent) and isinstance(other, Persistent):
        pairs = zip(one._buckets, other._buckets, strict=True)
        unlike = [*compress(pairs, map(is_not, one._buckets, other._buckets))]
    else:
        unlike = [(dict(one.items()), dict(other.items()))]
    found: list[K] = []
    for before, after in unlike:
        found += [
            key
            for key, value in after.items()
            if before.get(key, GONE) is not value and before.get(key, GONE) != value
        ]
        found += [key for key in before if key not in after]
    return found


def have_same_keys(one: Mapping[K, Any], other: Mapping[K, Any]) -> bool:
    """Whether two mappings have the same keys."""
    if len(one) != len(other):
        return False
    return all(key in one and key in other for key in differing(one, other))
