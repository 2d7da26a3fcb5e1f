"""Storage values in msgpack: extensions keep decimals apart from text, intervals from lists."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

_DECIMAL = 1
_INTERVAL = 2

encoder = msgspec.msgpack.Encoder()


def to_wire(value: Any) -> Any:
    """Return what msgpack can hold for a storage value, of any depth."""
    if isinstance(value, Decimal):
        return msgspec.msgpack.Ext(_DECIMAL, str(value).encode())
    if isinstance(value, tuple):
        return msgspec.msgpack.Ext(_INTERVAL, encoder.encode(value))
    if isinstance(value, list):
        return [to_wire(item) for item in value]
    if isinstance(value, dict):
        return {name: to_wire(item) for name, item in value.items()}
    return value


def extension(code: int, data: memoryview) -> Any:
    """Decode an extension: the ``ext_hook`` of every decoder of storage values."""
    if code == _DECIMAL:
        return Decimal(bytes(data).decode())
    if code == _INTERVAL:
        return tuple(msgspec.msgpack.decode(data))
    raise msgspec.ValidationError(f"unknown extension {code}")
