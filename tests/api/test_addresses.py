"""Who is asking, and how often an address may fail."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.api.client_address import client_address, client_scheme
from relay.api.failure_limit import FailureLimit

PROXIES = [ipaddress.ip_network(each) for each in ("10.0.0.0/8", "2001:db8:aaaa::/48")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1, 10.9.9.9"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.7, 10.0.0.8"], "10.0.0.7"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, "], "10.0.0.1"),
        ("10.0.0.1", ["[2001:db8:1::7]:4711"], "2001:db8:1::/64"),
        ("2001:db8:aaaa::1", ["198.51.100.1"], "198.51.100.1"),
        ("2001:db8:1:2:3::4", [], "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("fe80::1%eth0", [], "fe80::/64"),
        (None, ["198.51.100.1"], "unknown"),
        ("", [], "unknown"),
    ],
)
def test_the_address_held_responsible(peer, forwarded, address):
    assert client_address(peer, forwarded, PROXIES) == address


@given(st.text(), st.lists(st.text()))
def test_no_header_breaks_it(peer, forwarded):
    assert isinstance(client_address(peer, forwarded, PROXIES), str)
    assert client_address("203.0.113.9", forwarded, PROXIES) == "203.0.113.9"


@pytest.mark.parametrize(
    ("peer", "told", "scheme"),
    [
        ("10.0.0.1", "https", "https"),
        ("10.0.0.1", "http, HTTPS", "https"),
        ("10.0.0.1", "javascript", "http"),
        ("10.0.0.1", None, "http"),
        ("203.0.113.9", "https", "http"),
        (None, "https", "http"),
    ],
)
def test_the_scheme_the_browser_sees(peer, told, scheme):
    assert client_scheme("http", peer, told, PROXIES) == scheme


def test_failures_refill_with_time_and_never_beyond_the_burst():
    limit = FailureLimit(burst=2, seconds_each=10)
    assert limit.blocked_for("a", 0) == 0
    limit.count("a", 0)
    limit.count("a", 0)
    assert limit.blocked_for("a", 0) == 10
    assert limit.blocked_for("a", 4) == pytest.approx(6)
    assert limit.blocked_for("b", 0) == 0
    assert limit.blocked_for("a", 10) == 0
    limit.count("a", 1000)
    limit.count("a", 1000)
    assert limit.blocked_for("a", 1000) == 10


def test_a_clock_set_back_refills_nothing():
    limit = FailureLimit(burst=1, seconds_each=10)
    limit.count("a", 100)
    assert limit.blocked_for("a", 50) == 10


def test_the_table_is_bounded_and_forgets_who_failed_longest_ago():
    limit = FailureLimit(burst=1, seconds_each=10, capacity=2)
    for address in ("a", "b", "a", "c"):
        limit.count(address, 0)
    assert len(limit) == 2
    assert limit.blocked_for("b", 0) == 0
    assert limit.blocked_for("a", 0) > 0


def test_a_clock_set_back_by_an_hour_locks_nobody_out_for_an_hour():
    limit = FailureLimit(burst=1, seconds_each=10)
    limit.count("a", 10_000.0)
    assert limit.blocked_for("a", 6_400.0) == 10.0
    assert limit.blocked_for("a", 6_410.0) == 0.0
