"""What is bound and what browsers are told: exactly what is configured, and nothing by accident."""

from __future__ import annotations

import socket

import pytest

from relay.config_network import Advertised
from relay.errors import ConfigError
from relay.rtc import advertise
from relay.rtc.advertise import AdvertisedAddress, LocalAddress, advertised_addresses, bind_addresses, local_addresses

ANY = ("0.0.0.0", "::")
# A machine as servers are: loopback, two cards, a bridge of containers.
MACHINE = (
    LocalAddress("lo", "127.0.0.1"),
    LocalAddress("lo", "::1"),
    LocalAddress("eth0", "10.1.2.3"),
    LocalAddress("eth0", "2001:db8::3"),
    LocalAddress("eth0", "fe80::1"),
    LocalAddress("eth1", "169.254.7.7"),
    LocalAddress("docker0", "172.17.0.1"),
)


@pytest.fixture
def machine(monkeypatch):
    def have(*addresses):
        monkeypatch.setattr(advertise, "local_addresses", lambda: addresses)
        names = dict.fromkeys(each.interface for each in MACHINE)
        monkeypatch.setattr(socket, "if_nameindex", lambda: list(enumerate(names)))

    have(*MACHINE)
    return have


@pytest.fixture
def names(monkeypatch):
    """What DNS says."""
    known = {}

    def look_up(name, *_args, **_kwargs):
        if name not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(None, None, None, "", (address, 0)) for address in known[name]]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


def told(wanted, bound=ANY, tcp=8443, interfaces=()):
    parsed = tuple(each if isinstance(each, Advertised) else Advertised(each) for each in wanted)
    return [str(each) for each in advertised_addresses(parsed, bound, 8443, tcp, interfaces)]


def test_the_addresses_of_this_machine_are_read():
    assert LocalAddress("lo", "127.0.0.1") in local_addresses()
    assert bind_addresses(("127.0.0.1",), ()) == ("127.0.0.1",)


def test_wildcards_stay_and_one_of_a_family_the_machine_lacks_is_left_out(machine):
    assert bind_addresses(ANY, ()) == ANY
    machine(*[each for each in MACHINE if ":" not in each.host])
    assert bind_addresses(ANY, ()) == ("0.0.0.0",)
    with pytest.raises(ConfigError, match="this machine has no address of that family"):
        bind_addresses(("::",), ())


def test_interfaces_narrow_wildcards_and_leave_link_local_out(machine):
    assert bind_addresses(ANY, ("eth0",)) == ("10.1.2.3", "2001:db8::3")
    assert bind_addresses(("::", "0.0.0.0"), ("docker0", "eth0")) == ("2001:db8::3", "10.1.2.3", "172.17.0.1")
    assert bind_addresses(("0.0.0.0",), ("lo",)) == ("127.0.0.1",)
    assert bind_addresses(("192.0.2.9", "0.0.0.0"), ("eth0",)) == ("192.0.2.9", "10.1.2.3")
    with pytest.raises(ConfigError, match=r"ice\.interfaces eth1 has no address"):
        bind_addresses(ANY, ("eth1",))


def test_an_unknown_interface_is_told_with_those_that_exist(machine):
    for call in (lambda: bind_addresses(ANY, ("eth7",)), lambda: told(["auto"], interfaces=("eth7",))):
        with pytest.raises(ConfigError, match="there is no interface eth7; this machine has lo, eth0, eth1, docker0"):
            call()


def test_auto_is_every_bound_address_another_machine_could_use(machine):
    assert told(["auto"]) == [
        "10.1.2.3 udp 8443 tcp 8443",
        "172.17.0.1 udp 8443 tcp 8443",
        "[2001:db8::3] udp 8443 tcp 8443",
    ]
    assert told(["auto"], interfaces=("eth0",)) == ["10.1.2.3 udp 8443 tcp 8443", "[2001:db8::3] udp 8443 tcp 8443"]
    assert told(["auto"], bound=("10.1.2.3",), tcp=None) == ["10.1.2.3 udp 8443"]
    assert told(["auto"], bound=("127.0.0.1",)) == ["127.0.0.1 udp 8443 tcp 8443"]
    with pytest.raises(ConfigError, match=r"auto finds no address that fits ice\.interfaces docker0"):
        told(["auto"], bound=("10.1.2.3",), interfaces=("docker0",))


def test_without_a_network_loopback_is_told(machine):
    machine(MACHINE[0], MACHINE[1], LocalAddress("eth0", "fe80::1"))
    assert told(["auto"]) == ["127.0.0.1 udp 8443 tcp 8443", "[::1] udp 8443 tcp 8443"]
    assert told(["auto"], bound=("0.0.0.0",)) == ["127.0.0.1 udp 8443 tcp 8443"]
    machine()
    with pytest.raises(ConfigError, match="auto finds no address"):
        told(["auto"])


def test_what_is_written_is_told_as_written_in_that_order_and_once(machine):
    public = Advertised("203.0.113.7", 3478)
    assert told([public, "2001:db8::7", public, Advertised("203.0.113.7")]) == [
        "203.0.113.7 udp 3478 tcp 3478",
        "[2001:db8::7] udp 8443 tcp 8443",
        "203.0.113.7 udp 8443 tcp 8443",
    ]
    assert advertised_addresses((public,), ANY, 8443, None) == (AdvertisedAddress("203.0.113.7", 3478, None),)


def test_nothing_to_tell_or_to_bind_is_an_error(machine):
    with pytest.raises(ConfigError, match="is empty"):
        told([])
    with pytest.raises(ConfigError, match="no address"):
        bind_addresses((), ())


def test_a_family_that_nothing_is_bound_to_is_a_contradiction(machine, names):
    with pytest.raises(ConfigError, match=r"2001:db8::7 is an IPv6 address and ice\.hosts binds none"):
        told(["2001:db8::7"], bound=("0.0.0.0",))
    names["relay.example.com"] = ["2001:db8::9"]
    with pytest.raises(ConfigError, match=r"resolves to 2001:db8::9, of a family that ice\.hosts does not bind"):
        told(["relay.example.com"], bound=("0.0.0.0",))


def test_a_name_is_every_address_it_has_in_the_bound_families(machine, names):
    names["relay.example.com"] = ["203.0.113.7", "203.0.113.8", "2001:db8::9"]
    assert told(["relay.example.com"], bound=("0.0.0.0",), tcp=None) == ["203.0.113.7 udp 8443", "203.0.113.8 udp 8443"]
    assert len(told(["relay.example.com"])) == 3
    with pytest.raises(ConfigError, match=r"other\.example\.com does not resolve: Name or service not known"):
        told(["other.example.com"])
