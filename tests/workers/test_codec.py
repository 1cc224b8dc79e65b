"""Reports of workers: every one survives the way, and hostile bytes build nothing but reports."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.core.lifecycle import Dialect, Fact, Reoffered, ReplacePolicy, SessionCounters, SessionStart
from relay.core.policy import policy_from_instructions
from relay.workers import codec
from relay.workers.codec import CodecError, decode_order, decode_report, encode_order, encode_report
from relay.workers.messages import Begin, PlainReport, Report, SendDatagram, SetUp, StrayDatagram, Tell, Told

ADDRESSES = st.one_of(
    st.tuples(st.ip_addresses(v=4).map(str), st.integers(1, 65_535)),
    st.tuples(
        st.ip_addresses(v=6).map(str), st.integers(1, 65_535), st.integers(0, (1 << 20) - 1), st.integers(0, 1 << 31)
    ),
)
st.register_type_strategy(int, st.integers(-(1 << 62), 1 << 62))
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
st.register_type_strategy(str, st.text(st.characters(codec=None), max_size=30))
DATAGRAMS = [
    st.builds(each, st.integers(0, 255), ADDRESSES, st.binary(max_size=1_500)) for each in (SendDatagram, StrayDatagram)
]
OTHERS = typing.get_args(PlainReport)


@settings(deadline=None)
@given(st.one_of(*map(st.from_type, OTHERS), *DATAGRAMS))
def test_every_report_survives_the_way(report):
    assert decode_report(encode_report(report)) == report


@pytest.mark.parametrize("fact", typing.get_args(Fact), ids=lambda fact: fact.__name__)
def test_every_fact_survives_the_way(fact):
    @settings(deadline=None, max_examples=15)
    @given(st.builds(Told, st.text(), st.from_type(fact)))
    def run(told):
        found = decode_report(encode_report(told))
        assert found == told
        assert type(found.fact) is fact
        for field in dataclasses.fields(fact):
            assert type(getattr(found.fact, field.name)) is type(getattr(told.fact, field.name))

    run()


class Trap:
    """Does something when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("trapped",)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)
NAMES = [each.__name__ for each in (*typing.get_args(Report), *typing.get_args(Fact), SessionCounters)]


@st.composite
def near_reports(draw):
    """A report with something wrong in it: bytes of it changed, or values put in the place of others."""
    if draw(st.booleans()):
        data = bytearray(encode_report(draw(st.from_type(draw(st.sampled_from(OTHERS))))))
        for _ in range(draw(st.integers(1, 3))):
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
        return bytes(data)
    values = draw(st.lists(JSON_VALUES, max_size=4))
    return b"J" + json.dumps([draw(st.sampled_from(NAMES)), *values]).encode()


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=200) | near_reports() | st.binary(max_size=50).map(lambda data: b"S" + data))
def test_hostile_bytes_are_a_report_or_one_error(message):
    try:
        found = decode_report(message)
    except CodecError:
        return
    assert isinstance(found, typing.get_args(Report))


HOSTILE = {
    "nothing": b"",
    "a pickle": pickle.dumps(Trap()),
    "a pickle as JSON": b"J" + pickle.dumps(Trap()),
    "deep": b"J" + b"[" * 100_000,
    "a large number": b'J["Alive",' + b"9" * 5_000 + b',["Load",0.0,0,0.0,0,0]]',
    "a number beyond floats": b'J["Alive",1,["Load",' + b"9" * 400 + b",0,0.0,0,0]]",
    "not a number": b'J["Alive",1,["Load",NaN,0,0.0,0,0]]',
    "infinite": b'J["Alive",1,["Load",1e999,0,0.0,0,0]]',
    "true for a number": b'J["Alive",true,["Load",0.0,0,0.0,0,0]]',
    "a field too few": b'J["Alive",1]',
    "an order": b'J["Stop"]',
    "a command for a fact": b'J["Told","rs_1",["EndSession","relay_failed",""]]',
    "a word of no vocabulary": b'J["Told","rs_1",["Ending","because"]]',
    "another class": b'J["Told","rs_1",["Trap"]]',
    "an object": b'J{"Alive":1}',
    "pairs that are none": b'J["Measured",1,["Load",0.0,0,0.0,0,0],[["a"]]]',
    "a name for an address": b"S" + b"\x00\x16" + b'[0, "localhost", 8080]' + b"x",
    "a port too high": b"S" + b"\x00\x17" + b'[0, "127.0.0.1", 65536]' + b"x",
    "a head cut short": b"S\x00\xff[0]",
    "a datagram as JSON": b'J["SendDatagram",0,["127.0.0.1",9],"x"]',
    "a host before the first": b"S" + b"\x00\x14" + b'[-1, "127.0.0.1", 9]' + b"x",
}


@pytest.mark.parametrize("message", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_report_is_refused_and_nothing_is_run(message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CodecError):
        decode_report(message)
    assert not list(tmp_path.iterdir())


def test_a_datagram_beyond_what_udp_takes_is_refused():
    with pytest.raises(CodecError):
        decode_report(encode_report(SendDatagram(0, ("127.0.0.1", 9), bytes(65_508))))


def test_what_has_no_form_cannot_be_reported():
    with pytest.raises(TypeError):
        encode_report(Told("rs_1", Trap()))


def test_every_type_of_every_report_can_be_read():
    """A field that JSON cannot carry would be found here, and not at the first session."""
    for each in (*OTHERS, *typing.get_args(Fact)):
        assert len(codec._field_readers(each)) == len(dataclasses.fields(each))


def test_orders_survive_the_way():
    policy = policy_from_instructions("Be brief.", "gpt-realtime")
    start = SessionStart("rs_1", "v=0", Dialect.GA, Dialect.PREVIEW, True, "gpt-realtime", policy)
    for order in (Begin(start), Tell("rs_1", ReplacePolicy(policy)), Tell("rs_1", Reoffered(1, "v=0"))):
        assert decode_order(encode_order(order)) == order


def test_what_a_worker_is_told_of_the_settings_holds_no_credential_of_the_service():
    """Of the settings only ports, ways out and log go to a worker."""
    assert [each.name for each in dataclasses.fields(SetUp)] == ["ports", "egress", "log"]
