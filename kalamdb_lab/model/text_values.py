"""Python values as storage values of TEXT, JSON, BYTES and UUID."""

from __future__ import annotations

import json
import re
import uuid

import msgspec

from kalamdb_lab.model import faults
from kalamdb_lab.model.datatypes import KalamDataType, StorageValue
from kalamdb_lab.model.foreign_values import unwrapped
from kalamdb_lab.model.number_values import Convert

_UUID = re.compile(r"\s*[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\s*", re.ASCII | re.IGNORECASE)
_read_json = msgspec.json.Decoder(msgspec.Raw).decode


def is_json(text: str) -> bool:
    """Return whether ``text`` is one JSON value as RFC 8259 has it (no NaN, no half surrogate)."""
    try:
        _read_json(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True


def text(data_type: KalamDataType) -> Convert:
    """Return the converter of TEXT, which takes UUIDs too."""

    def convert(value: object, column: str | None = None) -> StorageValue:
        if type(value) is not str:
            if value is None or (plain := unwrapped(value)) is None:
                return None
            if isinstance(plain, uuid.UUID):
                return str(plain)
            if not isinstance(plain, str):
                raise faults.not_convertible(plain, data_type, column)
            value = str.__str__(plain)
        if "\0" in value or not (value.isascii() or _is_unicode(value)):
            raise faults.unfit_text(data_type, column)
        return value

    return convert


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def document(data_type: KalamDataType) -> Convert:
    """Return the converter of JSON: a text as it is written, or a dict or list."""

    def convert(value: object, column: str | None = None) -> StorageValue:
        if type(value) is not str:
            if value is None or (plain := unwrapped(value)) is None:
                return None
            if isinstance(plain, (dict, list)):
                value = _as_json(plain, data_type, column)
            elif isinstance(plain, str):
                value = str.__str__(plain)
            else:
                raise faults.not_convertible(plain, data_type, column)
        if not is_json(value):
            raise faults.invalid(data_type, column)
        return value

    return convert


def _as_json(value: object, data_type: KalamDataType, column: str | None) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise faults.invalid(data_type, column) from None


def raw_bytes(data_type: KalamDataType) -> Convert:
    """Return the converter of BYTES."""

    def convert(value: object, column: str | None = None) -> StorageValue:
        if type(value) is bytes or value is None:
            return value
        plain = unwrapped(value)
        if isinstance(plain, (bytes, bytearray, memoryview)):
            return bytes(plain)
        if plain is None:
            return None
        raise faults.not_convertible(plain, data_type, column)

    return convert


def unique_id(data_type: KalamDataType) -> Convert:
    """Return the converter of UUID."""

    def convert(value: object, column: str | None = None) -> StorageValue:
        if type(value) is uuid.UUID:
            return value.bytes
        if value is None or (plain := unwrapped(value)) is None:
            return None
        if isinstance(plain, str):
            if _UUID.fullmatch(plain) is None:
                raise faults.invalid(data_type, column)
            return bytes.fromhex(plain.replace("-", ""))
        if isinstance(plain, (bytes, bytearray)):
            if len(plain) != 16:
                raise faults.invalid(data_type, column)
            return bytes(plain)
        if type(plain).__name__ == "UUID" and isinstance(raw := getattr(plain, "bytes", 0), bytes):
            return raw
        raise faults.not_convertible(plain, data_type, column)

    return convert
