"""Network settings: what each parser takes, what it refuses and with which words, and what does not go together."""

from __future__ import annotations

import json

import pytest

from relay.config import ConfigError, Secret, load_settings
from relay.config_network import (
    Advertised,
    IceServer,
    PortRange,
    advertised,
    ice_server,
    interface,
    port_range,
    proxy_url,
    turn_server,
)

CANARY = "canary-0123456789-secret"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("auto", Advertised("auto")),
        ("auto:3478", Advertised("auto", 3478)),
        ("203.0.113.7", Advertised("203.0.113.7")),
        ("203.0.113.7:443", Advertised("203.0.113.7", 443)),
        ("2001:db8::7", Advertised("2001:db8::7")),
        ("2001:DB8:0::7", Advertised("2001:db8::7")),
        ("[2001:db8::7]:8443", Advertised("2001:db8::7", 8443)),
        ("relay.example.com", Advertised("relay.example.com")),
        ("relay.example.com:65535", Advertised("relay.example.com", 65535)),
        ("127.0.0.1", Advertised("127.0.0.1")),
    ],
)
def test_advertised_addresses(text, value):
    assert advertised(text) == value
    assert advertised(str(value)) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.0.0.0", "cannot be reached"),
        ("[::]:8443", "cannot be reached"),
        ("224.0.0.1", "cannot be reached"),
        ("fe80::1%eth0", "zone"),
        ("10.0.0.256", "neither"),
        ("203.0.113.7:0", "from 1 to 65535"),
        ("203.0.113.7:65536", "from 1 to 65535"),
        ("203.0.113.7:", "neither"),
        (":8443", "neither"),
        ("", "neither"),
        ("[2001:db8::7]", "neither"),
        ("-relay.example.com", "neither"),
        ("a b", "neither"),
        ("https://relay.example.com", "neither"),
        ("a" * 300, "neither"),
    ],
)
def test_what_browsers_could_not_use_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        advertised(text)


@pytest.mark.parametrize("text", ["eth0", "enp0s31f6", "wg-vpn.1", "e" * 15])
def test_interfaces(text):
    assert interface(text) == text


@pytest.mark.parametrize("text", ["", "e" * 16, "eth0:1", "eth 0", "a/b", "a,b"])
def test_what_is_no_interface(text):
    with pytest.raises(ValueError, match="not the name of a network interface"):
        interface(text)


def test_ranges_of_ports():
    assert port_range("50000-50999") == PortRange(50000, 50999)
    assert port_range("1024-1024") == PortRange(1024, 1024)
    assert str(port_range("50000-50999")) == "50000-50999"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("50000", "not a range of ports"),
        ("50000-", "not a range of ports"),
        ("50000:50999", "not a range of ports"),
        ("\u0665\u0660\u0660\u0660\u0660-50999", "not a range of ports"),
        ("50999-50000", "within 1024 to 65535"),
        ("1000-2000", "within 1024 to 65535"),
        ("50000-65536", "within 1024 to 65535"),
    ],
)
def test_what_is_no_range_of_ports(text, words):
    with pytest.raises(ValueError, match=words):
        port_range(text)


@pytest.mark.parametrize(
    ("text", "value", "shown"),
    [
        ("stun:stun.example.com", IceServer("stun", "stun.example.com", 3478, "udp"), "stun:stun.example.com:3478"),
        ("stuns:stun.example.com", IceServer("stuns", "stun.example.com", 5349, "tcp"), "stuns:stun.example.com:5349"),
        ("turn:192.0.2.1:3479", IceServer("turn", "192.0.2.1", 3479, "udp"), "turn:192.0.2.1:3479?transport=udp"),
        ("turn:t.example?transport=tcp", IceServer("turn", "t.example", 3478, "tcp"),
         "turn:t.example:3478?transport=tcp"),
        ("turns:t.example:443", IceServer("turns", "t.example", 443, "tcp"), "turns:t.example:443?transport=tcp"),
        ("turns:[2001:db8::1]:443?transport=tcp", IceServer("turns", "2001:db8::1", 443, "tcp"),
         "turns:[2001:db8::1]:443?transport=tcp"),
    ],
)  # fmt: skip
def test_stun_and_turn_servers(text, value, shown):
    found = ice_server(text)
    assert found == value
    assert str(found) == shown
    assert ice_server(shown) == value
    assert found.is_turn == text.startswith("turn")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("turn.example.com", "not a URL"),
        ("turn://t.example", "not a URL"),
        ("http://t.example", "not a URL"),
        ("turn:user@t.example", "not a URL"),
        ("turn:t.example?transport=sctp", "not a URL"),
        ("turn:t.example:99999", "from 1 to 65535"),
        ("turn:t.example:0", "from 1 to 65535"),
        ("stun:t.example?transport=udp", "has no transport"),
        ("turn:[::g]", "not a URL"),
        ("turn:[1:2]", "names no host"),
        ("turn:10.0.0.256", "names no host"),
        ("turn:-a", "names no host"),
        ("turn:a b", "names no host"),
    ],
)
def test_what_is_no_such_server(text, words):
    with pytest.raises(ValueError, match=words):
        ice_server(text)


def test_towards_the_service_only_turn_that_can_be_spoken():
    assert turn_server("turns:t.example:443").transport == "tcp"
    with pytest.raises(ValueError, match="no TURN server"):
        turn_server("stun:t.example")
    with pytest.raises(ValueError, match="over DTLS is not supported"):
        turn_server("turns:t.example?transport=udp")


@pytest.mark.parametrize(
    "text", ["http://proxy.example.com:3128", f"http://user:{CANARY}@192.0.2.1:8080", "http://[2001:db8::1]:3128"]
)
def test_a_proxy_is_kept_as_a_secret(text):
    assert proxy_url(text) == Secret(text)
    assert proxy_url(f"{text}/") == Secret(text)
    assert CANARY not in repr(proxy_url(text))


@pytest.mark.parametrize(
    "text",
    [
        "proxy.example.com:3128", "https://proxy.example.com:3128", "http://proxy.example.com", "http://:3128",
        "http://p:0", "http://p:99999", "http://p:3128/path", "http://p:3128?a=b", "http://p:3128#a", "http://p q:3128",
        "http://p\t:3128", "http://pröxy:3128", "http://[p:3128", f"socks5://u:{CANARY}@p:1080",
    ],
)  # fmt: skip
def test_what_is_no_proxy_is_refused_and_not_repeated(text):
    with pytest.raises(ValueError, match="is not a proxy such as") as refused:
        proxy_url(text)
    assert CANARY not in str(refused.value)


def load(**environ):
    return load_settings(None, {f"RELAY_{name}": value for name, value in environ.items()})


def contradictions(**environ):
    with pytest.raises(ConfigError) as caught:
        load(**environ)
    return str(caught.value).splitlines()


def test_the_defaults_are_every_address_both_families_udp_and_tcp():
    settings = load()
    assert settings.ice.hosts == ("0.0.0.0", "::")
    assert (settings.ice.udp_port, settings.ice.tcp, settings.ice.tcp_port) == (8443, True, 8443)
    assert settings.ice.advertise == (Advertised("auto"),)
    assert (settings.turn.urls, settings.egress.udp, settings.egress.tcp) == ((), True, True)


def test_everything_of_a_network_can_be_given_and_no_secret_is_printed(tmp_path):
    path = tmp_path / "relay.yaml"
    (tmp_path / "secret").write_text(f"{CANARY}\n")
    path.write_text(
        "ice:\n  advertise: [203.0.113.7, '[2001:db8::7]:443', auto]\n"
        "  hosts: ['0.0.0.0', '::']\n  interfaces: [eth0]\n"
        "turn:\n  urls: ['stun:t.example', 'turns:t.example:443']\n  relay_only: true\n"
        f"  secret_file: {tmp_path}/secret\n"
        f"egress:\n  udp_ports: 50000-50999\n  turn_url: turn:t.example\n  turn_secret_file: {tmp_path}/secret\n"
    )
    settings = load_settings(str(path), {"RELAY_EGRESS_PROXY": f"http://u:{CANARY}@p.example:3128"})
    assert settings.ice.advertise[1] == Advertised("2001:db8::7", 443)
    assert settings.turn.secret == Secret(CANARY)
    assert settings.egress.udp_ports == PortRange(50000, 50999)
    shown = settings.redacted()
    assert shown["ice.advertise"]["value"] == ["203.0.113.7", "[2001:db8::7]:443", "auto"]
    assert json.loads(json.dumps(shown))["egress.turn_url"]["value"] == "turn:t.example:3478?transport=udp"
    assert shown["egress.udp_ports"]["value"] == "50000-50999"
    assert shown["egress.proxy"]["value"] == "(set)"
    assert CANARY not in str(shown) + repr(settings)


@pytest.mark.parametrize("secret", [{}, {"TURN_SECRET": CANARY}])
def test_a_turn_server_for_browsers_needs_the_secret_and_a_stun_server_does_not(secret):
    assert load(TURN_URLS="stun:t.example", **secret).turn.urls
    if secret:
        assert load(TURN_URLS="turn:t.example", **secret).turn.secret
    else:
        [line] = contradictions(TURN_URLS="turn:t.example")
        assert "set turn.secret" in line


def test_relay_only_needs_a_turn_server():
    [line] = contradictions(TURN_RELAY_ONLY="true", TURN_URLS="stun:t.example")
    assert "no browser could connect" in line


def test_one_way_to_the_service_must_be_left():
    [line] = contradictions(EGRESS_UDP="false", EGRESS_TCP="false")
    assert "no way to the service is left" in line
    load(EGRESS_UDP="false")
    load(EGRESS_TCP="false")
    load(EGRESS_UDP="false", EGRESS_TCP="false", EGRESS_TURN_URL="turn:t.example", EGRESS_TURN_SECRET=CANARY)


@pytest.mark.parametrize(
    ("given", "good"),
    [
        ((), False),
        (("SECRET",), True),
        (("USERNAME", "PASSWORD"), True),
        (("USERNAME",), False),
        (("PASSWORD",), False),
        (("SECRET", "USERNAME"), False),
        (("SECRET", "USERNAME", "PASSWORD"), False),
    ],
)
def test_turn_towards_the_service_has_one_kind_of_credentials(given, good):
    environ = {"EGRESS_TURN_URL": "turn:t.example"} | {f"EGRESS_TURN_{name}": "relay-canary" for name in given}
    if good:
        assert load(**environ).egress.turn_url
    else:
        [line] = contradictions(**environ)
        assert "either egress.turn_secret, or egress.turn_username with egress.turn_password" in line
        assert "canary" not in line


def test_one_address_twice_is_told():
    [line] = contradictions(ICE_ADVERTISE="203.0.113.7,203.0.113.7")
    assert "the same value twice" in line


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"EGRESS_TURN_SECRET": CANARY}, "egress.turn_url, which is not set"),
        ({"EGRESS_PROXY": "http://proxy.example:3128", "EGRESS_TCP": "false"}, "egress.tcp is false"),
        ({"EGRESS_UDP_PORTS": "50000-50999", "EGRESS_UDP": "false"}, "egress.udp is false"),
        ({"TURN_URLS": ",".join(f"stun:s{number}.example" for number in range(17))}, "browsers take 16"),
        ({"LIMITS_DISCONNECTED_SECONDS": "30"}, "shorter than limits.consent_seconds"),
    ],
)
def test_settings_without_effect_are_told(environ, named):
    [line] = contradictions(**environ)
    assert named in line


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"HTTP_PORT": "8081"}, "http.port and admin.port are both TCP port 8081"),
        ({"HTTP_PORT": "8443"}, "http.port and ice.tcp_port are both TCP port 8443"),
        ({"ADMIN_PORT": "8443"}, "admin.port and ice.tcp_port are both TCP port 8443"),
        ({"HTTP_HOST": "::1", "HTTP_PORT": "8443", "ICE_HOSTS": "0.0.0.0,::"}, "http.port and ice.tcp_port"),
        ({"HTTP_HOST": "localhost", "ADMIN_HOST": "localhost", "ADMIN_PORT": "8080"}, "http.port and admin.port"),
        ({"WORKERS": "2", "WORKERS_PORTS": "own", "HTTP_PORT": "8445"}, "http.port and ice.tcp_port are both"),
    ],
)  # fmt: skip
def test_two_listeners_at_one_port_are_told_before_one_fails_to_bind(environ, told):
    [line] = contradictions(**environ)
    assert line.startswith(told)
    assert line.endswith("give each a port of its own")


@pytest.mark.parametrize(
    "environ",
    [
        {"HTTP_PORT": "0", "ADMIN_PORT": "0", "ICE_TCP_PORT": "0"},
        {"HTTP_PORT": "8443", "ICE_TCP": "false"},
        {"HTTP_HOST": "127.0.0.1", "HTTP_PORT": "8443", "ICE_HOSTS": "192.0.2.7"},
        {"HTTP_HOST": "127.0.0.1", "HTTP_PORT": "8443", "ICE_HOSTS": "::"},
        {"HTTP_HOST": "127.0.0.1", "HTTP_PORT": "8443", "ICE_INTERFACES": "eth0"},
        {"WORKERS": "2", "WORKERS_PORTS": "own", "HTTP_PORT": "8446"},
    ],
)
def test_listeners_that_do_not_meet_may_have_one_number(environ):
    """Loading raises for those that meet."""
    assert load(**environ).origins.keys() >= {"http.port"}
