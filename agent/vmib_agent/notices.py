"""What the agent tells by itself: which notification, about which row, and not too often."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vmib import objects
from vmib.schema import COLUMNS, SCALARS
from vmib.smi import Oid, Tag

from .service import Missing, Value, VarBind
from .state import Key

Send = Callable[[str, Iterable[VarBind]], None]

KINDS: Mapping[str, str] = {
    "vmibVifStatusChange": "vifStatus",
    "vmibShapingDrift": "drift",
    "vmibShapingRestored": "drift",
    "vmibDrift": "drift",
    "vmibApplyFailed": "applyFailed",
    "vmibTxnFinished": "transaction",
    "vmibTxnAwaitingConfirm": "transaction",
    "vmibAgentModeChange": "agentMode",
    "vmibProbeThresholdChange": "threshold",
}
"""Notification -> the bit of vmibNotifyEnable that lets it out."""

REMEMBERED = 10_000
"""Notifications of which is remembered when they were sent, before old ones are forgotten."""

_OBJECTS = {notification.name: notification.objects for notification in objects.NOTIFICATIONS}


class Notices:
    """Builds notifications from the MIB and holds back what comes too often."""

    def __init__(self, send: Send, get: Callable[[Oid], Value | Missing]) -> None:
        self._send = send
        self._get = get
        self._last: dict[tuple[str, Any], float] = {}
        self.suppressed = 0

    def about(
        self, name: str, key: Key, now: float, enabled: frozenset[str], min_interval: int
    ) -> None:
        """Send a notification whose objects are cells of the row with this key, and scalars."""
        varbinds = []
        for object_name in _OBJECTS[name]:
            oid = self._instance(object_name, key)
            value = self._get(oid)
            if isinstance(value, Value):
                varbinds.append(VarBind(oid, value))
        self._let_out(name, key, varbinds, now, enabled, min_interval)

    def because(
        self,
        name: str,
        row: Oid,
        reason: str,
        now: float,
        enabled: frozenset[str],
        min_interval: int,
    ) -> None:
        """Send a notification that carries a row and a reason."""
        varbinds = [
            VarBind((*objects.vmibNotifyObject.oid, 0), Value(Tag.OBJECT_IDENTIFIER, row)),
            VarBind(
                (*objects.vmibNotifyReason.oid, 0),
                Value(Tag.OCTET_STRING, reason.encode()[:255].decode(errors="ignore").encode()),
            ),
        ]
        self._let_out(name, row, varbinds, now, enabled, min_interval)

    @staticmethod
    def _instance(object_name: str, key: Key) -> Oid:
        if object_name in SCALARS:
            return (*SCALARS[object_name].oid, 0)
        table, column = COLUMNS[object_name]
        if table.augments:
            table = COLUMNS[f"{table.augments.removesuffix('Table')}StorageType"][0]
        return (*column.oid, *table.encode_index(key[: len(table.index)]))

    def _let_out(
        self,
        name: str,
        about: Any,
        varbinds: Iterable[VarBind],
        now: float,
        enabled: frozenset[str],
        min_interval: int,
    ) -> None:
        if KINDS[name] not in enabled:
            return
        last = self._last.get((name, about))
        if last is not None and now - last < min_interval:
            self.suppressed += 1
            return
        if len(self._last) >= REMEMBERED:
            self._last = {
                key: sent for key, sent in self._last.items() if now - sent < min_interval
            }
        self._last[name, about] = now
        self._send(name, varbinds)
