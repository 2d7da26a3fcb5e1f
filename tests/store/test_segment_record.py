"""Records of segments, those of older versions too."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from stored_segments import A, segment

from kalamdb_lab.store.segment_record import decode_segment, encode_segment


def test_a_record_comes_back_with_the_digests_of_its_codes() -> None:
    meta = replace(segment(7), codes={4: "2" * 32})
    assert decode_segment(encode_segment(meta), A) == meta


@pytest.mark.parametrize("fields", [12, 13])
def test_a_record_written_before_there_were_codes_or_indexes_has_none(fields: int) -> None:
    meta = segment(7)
    parts = msgspec.msgpack.decode(encode_segment(meta), ext_hook=msgspec.msgpack.Ext)
    assert len(parts) > 13
    old = msgspec.msgpack.encode(parts[:fields])
    assert decode_segment(old, A) == meta


def test_a_record_that_lacks_more_than_later_fields_is_damaged() -> None:
    parts = msgspec.msgpack.decode(encode_segment(segment(7)), ext_hook=msgspec.msgpack.Ext)
    with pytest.raises(msgspec.ValidationError):
        decode_segment(msgspec.msgpack.encode(parts[:11]), A)
