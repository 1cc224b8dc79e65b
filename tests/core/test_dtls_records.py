"""Datagrams cut into DTLS records."""

from struct import pack

from hypothesis import given
from hypothesis import strategies as st

from relay.core.dtls_records import records


def record(body):
    return b"\x17\xfe\xfd" + bytes(8) + pack("!H", len(body)) + body


def test_records_come_one_by_one():
    parts = [record(b"a"), record(b""), record(b"c" * 300)]
    assert records(b"".join(parts)) == parts


def test_a_cut_record_is_dropped():
    assert records(record(b"a") + record(b"bcd")[:-1]) == [record(b"a")]
    assert records(b"\x16\xfe") == []


@given(st.binary(max_size=1500))
def test_nothing_is_made_up(data):
    found = records(data)
    assert b"".join(found) == data[: sum(map(len, found))]
