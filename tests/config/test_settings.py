"""Settings: names, precedence, refusals an operator can act on, and no secret in print."""

from __future__ import annotations

import dataclasses
import json
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config import (
    ConfigError,
    LimitSettings,
    Secret,
    Settings,
    UpstreamAuth,
    UpstreamProtocol,
    catalogue,
    load_settings,
)
from relay.config_network import Advertised
from relay.config_prices import Prices
from relay.core.lifecycle import SessionLimits

CANARY = "canary-0123456789-secret"
MINIMAL = {
    "RELAY_UPSTREAM_ENDPOINT": "https://my-resource.openai.azure.com/",
    "RELAY_UPSTREAM_DEPLOYMENT": "gpt-realtime",
    "RELAY_UPSTREAM_API_KEY": CANARY,
    "RELAY_CLIENT_KEYS": "client-key-000001,client-key-000002",
    "RELAY_INSTRUCTIONS": "Be brief.",
}
# The names the program promises, spelled as operators know them.
PROMISED = [
    "RELAY_UPSTREAM_PROTOCOL",
    "RELAY_UPSTREAM_ENDPOINT",
    "RELAY_UPSTREAM_WEBRTC_ENDPOINT",
    "RELAY_UPSTREAM_REGION",
    "RELAY_UPSTREAM_API_VERSION",
    "RELAY_UPSTREAM_DEPLOYMENT",
    "RELAY_UPSTREAM_TRANSCRIPTION_DEPLOYMENT",
    "RELAY_UPSTREAM_API_KEY",
    "RELAY_UPSTREAM_AUTH",
    "RELAY_UPSTREAM_ENTRA_SCOPE",
    "RELAY_CLIENT_KEYS",
    "RELAY_INSTRUCTIONS",
    "RELAY_HTTP_HOST",
    "RELAY_HTTP_PORT",
    "RELAY_ADMIN_HOST",
    "RELAY_ADMIN_PORT",
    "RELAY_HTTP_TLS_CERT_FILE",
    "RELAY_HTTP_TLS_KEY_FILE",
    "RELAY_TRUSTED_PROXIES",
    "RELAY_ALLOWED_ORIGINS",
    "RELAY_ICE_ADVERTISE",
    "RELAY_ICE_UDP_PORT",
    "RELAY_LOG_LEVEL",
]


def problems(environ=None, path=None):
    with pytest.raises(ConfigError) as caught:
        load_settings(path, environ or {})
    return str(caught.value).splitlines()


@pytest.fixture
def yaml_file(tmp_path):
    def write(text):
        path = tmp_path / "relay.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def test_the_promised_environment_names_exist_and_no_two_settings_share_one():
    names = [spec.env for spec in catalogue()]
    assert set(PROMISED) <= set(names)
    assert len(names) == len(set(names))


def test_an_environment_only_start_works():
    settings = load_settings(None, MINIMAL)
    settings.require_servable()
    assert settings.upstream.endpoint == "https://my-resource.openai.azure.com"
    assert [key.reveal() for key in settings.clients.keys] == ["client-key-000001", "client-key-000002"]
    assert (settings.http.port, settings.admin.port, settings.ice.udp_port) == (8080, 8081, 8443)
    assert settings.admin.host == "127.0.0.1"


def test_the_environment_wins_over_the_file_and_both_are_named_as_origins(yaml_file):
    path = yaml_file("upstream:\n  deployment: from-file\n  region: eastus2\n")
    settings = load_settings(path, {"RELAY_UPSTREAM_DEPLOYMENT": "from-env"})
    assert settings.upstream.deployment == "from-env"
    shown = settings.redacted()
    assert shown["upstream.deployment"]["origin"] == "env RELAY_UPSTREAM_DEPLOYMENT"
    assert shown["upstream.region"] == {"value": "eastus2", "origin": f"{path}:3", "env": "RELAY_UPSTREAM_REGION"}
    assert shown["http.port"]["origin"] == "default"


def test_relay_config_names_the_file(yaml_file):
    path = yaml_file("http:\n  port: 9000\n")
    assert load_settings(None, {"RELAY_CONFIG": path}).http.port == 9000


@pytest.mark.parametrize("protocol", ["azure-preview"])
def test_the_previews_webrtc_endpoint_is_built_from_the_region(protocol):
    environ = MINIMAL | {"RELAY_UPSTREAM_PROTOCOL": protocol}
    with pytest.raises(ConfigError, match="RELAY_UPSTREAM_REGION"):
        load_settings(None, environ).require_servable()
    settings = load_settings(None, environ | {"RELAY_UPSTREAM_REGION": "swedencentral"})
    settings.require_servable()
    assert settings.upstream.webrtc_endpoint == "https://swedencentral.realtimeapi-preview.ai.azure.com"
    assert settings.upstream.api_version == "2025-04-01-preview"


def test_openai_needs_no_endpoint_and_knows_no_entra():
    environ = {name: MINIMAL[name] for name in MINIMAL if name != "RELAY_UPSTREAM_ENDPOINT"}
    environ["RELAY_UPSTREAM_PROTOCOL"] = "openai"
    settings = load_settings(None, environ)
    settings.require_servable()
    assert settings.upstream.protocol is UpstreamProtocol.OPENAI
    assert settings.upstream.endpoint == "https://api.openai.com"
    assert "Azure" in problems(environ | {"RELAY_UPSTREAM_AUTH": "entra"})[0]


def test_entra_needs_no_key_and_stands_beside_none():
    environ = {name: MINIMAL[name] for name in MINIMAL if name != "RELAY_UPSTREAM_API_KEY"}
    settings = load_settings(None, environ | {"RELAY_UPSTREAM_AUTH": "entra"})
    settings.require_servable()
    assert settings.upstream.auth is UpstreamAuth.ENTRA
    [problem] = problems(MINIMAL | {"RELAY_UPSTREAM_AUTH": "entra"})
    assert "keep one of them" in problem


def test_what_is_missing_to_serve_is_told_at_once_with_names():
    with pytest.raises(ConfigError) as caught:
        Settings().require_servable()
    lines = str(caught.value).splitlines()
    assert [line.split()[0] for line in lines] == [
        "upstream.endpoint", "upstream.deployment", "upstream.api_key", "clients.keys", "policy.instructions",
    ]  # fmt: skip
    assert "RELAY_POLICY_ALLOW_EMPTY" in lines[-1]


@pytest.mark.parametrize("text", ["", "  \n "])
def test_blank_instructions_refuse_to_start_unless_that_is_said_and_then_it_is_loud(text):
    environ = MINIMAL | {"RELAY_INSTRUCTIONS": text}
    with pytest.raises(ConfigError, match=r"policy\.instructions"):
        load_settings(None, environ).require_servable()
    settings = load_settings(None, environ | {"RELAY_POLICY_ALLOW_EMPTY": "true"})
    settings.require_servable()
    assert any("NO CENTRAL INSTRUCTIONS" in warning for warning in settings.warnings)


def test_warnings_follow_the_settings():
    quiet = MINIMAL | {
        "RELAY_UPSTREAM_TRANSCRIPTION_DEPLOYMENT": "whisper",
        "RELAY_TRUSTED_PROXIES": "10.0.0.0/8",
        "RELAY_STATE_DIRECTORY": "/var/lib/relay",
    }
    assert load_settings(None, quiet).warnings == ()
    [transcription, memory, tls] = load_settings(None, MINIMAL).warnings
    assert "kept in memory" in memory
    assert "transcription is removed from every session" in transcription
    assert "no microphone" in tls
    assert load_settings(None, quiet | {"RELAY_TRUSTED_PROXIES": "", "RELAY_HTTP_HOST": "127.0.0.1"}).warnings == ()
    assert "*" in load_settings(None, quiet | {"RELAY_ALLOWED_ORIGINS": "*"}).warnings[0]


def test_the_store_is_where_it_is_said_to_be_or_in_the_state_directory_or_in_memory():
    def place(**environ):
        return load_settings(None, MINIMAL | environ).store_url.reveal()

    assert place() == "sqlite://"
    assert place(RELAY_STATE_DIRECTORY="/var/lib/relay") == "sqlite:////var/lib/relay/relay.db"
    url = "postgresql://relay:hidden@db/relay?sslmode=verify-full"
    assert place(RELAY_STATE_DIRECTORY="/var/lib/relay", RELAY_STORE_URL=url) == url


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_store_in_memory_that_was_asked_for_is_told_of_and_can_hold_no_keys(url):
    settings = load_settings(None, {"RELAY_STORE_URL": url, "RELAY_POLICY_MANAGED": "true"})
    assert sum("in memory" in line for line in settings.warnings) == 2
    with pytest.raises(ConfigError, match=r"clients\.keys is not set"):
        settings.require_servable()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("STORE_URL", "mysql://u:hidden@h/d", "store.url: begins with neither sqlite:// nor postgresql://"),
        ("STORE_URL", "sqlite://var/hidden.db", "store.url: sqlite takes a path: sqlite:////"),
        ("STORE_REDIS_URL", "http://:hidden@h", "store.redis_url: begins with none of redis://"),
    ],
)
def test_a_store_s_url_that_cannot_be_one_is_refused_without_quoting_it(name, value, words):
    [line] = problems({f"RELAY_{name}": value})
    assert words in line
    assert "hidden" not in line


def test_unknown_keys_are_refused_with_line_and_nearest_match(yaml_file):
    path = yaml_file("upstream:\n  endpont: https://a.example\n\nhtp:\n  port: 1\nhttp:\n  udp_port: 5\n")
    first, second, third = problems(path=path)
    assert first == f"{path}:2: unknown setting 'upstream.endpont'; did you mean upstream.endpoint?"
    assert second == f"{path}:5: unknown setting 'htp.port'; did you mean http.port?"
    assert third.startswith(f"{path}:7: unknown setting 'http.udp_port'; did you mean ")


def test_the_forwarder_is_chosen_by_a_name_of_its_own():
    for known in ("auto", "native", "python", ""):
        load_settings(None, MINIMAL | {"RELAY_FORWARDER": known})
    with pytest.raises(ConfigError, match="env RELAY_FORWARDER: 'fast' is none of auto, native, python"):
        load_settings(None, MINIMAL | {"RELAY_FORWARDER": "fast"})


def test_unknown_environment_names_are_refused_with_the_nearest_match():
    [line] = problems({"RELAY_CLIENT_KEY": "client-key-000001"})
    assert line == "env RELAY_CLIENT_KEY: unknown setting; did you mean RELAY_CLIENT_KEYS?"
    [line] = problems({"RELAY_HTP_PORT": "80"})
    assert "RELAY_HTTP_PORT" in line


def test_names_that_kubernetes_makes_for_a_service_called_relay_are_passed_over():
    links = {
        "RELAY_SERVICE_HOST": "10.0.0.1",
        "RELAY_SERVICE_PORT_HTTP": "80",
        "RELAY_PORT": "tcp://10.0.0.1:80",
        "RELAY_PORT_8080_TCP_ADDR": "10.0.0.1",
    }
    assert load_settings(None, MINIMAL | links).http.port == 8080
    [line] = problems({"RELAY_HTTP_PORT": "tcp://10.0.0.1:80"})
    assert "enableServiceLinks" in line


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("RELAY_UPSTREAM_PROTOCOL", "azure", "azure-ga, azure-preview, openai"),
        ("RELAY_UPSTREAM_ENDPOINT", "my-resource.openai.azure.com", "not a URL"),
        ("RELAY_UPSTREAM_ENDPOINT", "https://a.example/openai/v1", "leave out"),
        ("RELAY_UPSTREAM_ENDPOINT", "https://user:pass@a.example", "no user"),
        ("RELAY_UPSTREAM_ENDPOINT", "https://a.example?api-version=1", "query"),
        ("RELAY_UPSTREAM_ENDPOINT", "https://a.example:port", "port"),
        ("RELAY_UPSTREAM_ENDPOINT", "https://[::1", "not a URL"),
        ("RELAY_UPSTREAM_ENDPOINT", "http://a.example", "unencrypted"),
        ("RELAY_UPSTREAM_REGION", "Sweden Central", "small letters"),
        ("RELAY_UPSTREAM_DEPLOYMENT", "a b", "not a name"),
        ("RELAY_UPSTREAM_TIMEOUT_SECONDS", "nan", "seconds"),
        ("RELAY_UPSTREAM_TIMEOUT_SECONDS", "0", "outside 1 to 120"),
        ("RELAY_CLIENT_KEYS", "short", "16 characters"),
        ("RELAY_CLIENT_KEYS", "ek_0123456789abcdef", "ek_"),
        ("RELAY_CLIENT_KEYS", "client-key-000001,client-key-000001", "twice"),
        ("RELAY_CLIENT_KEYS", "client-key-with-é", "ASCII"),
        ("RELAY_HTTP_PORT", "65536", "outside 0 to 65535"),
        ("RELAY_HTTP_PORT", "٨٠", "whole number"),
        ("RELAY_HTTP_HOST", "not a host", "host name"),
        ("RELAY_HTTP_TLS_CERT_FILE", "/nonexistent", "No such file"),
        ("RELAY_TRUSTED_PROXIES", "10.0.0.1/8", "host bits"),
        ("RELAY_ALLOWED_ORIGINS", "https://a.example/", "no slash"),
        ("RELAY_ALLOWED_ORIGINS", "https://a.example:443", "default port"),
        ("RELAY_ALLOWED_ORIGINS", "https://A.example", "small letters"),
        ("RELAY_ALLOWED_ORIGINS", "null", "not an origin"),
        ("RELAY_ALLOWED_ORIGINS", "https://bücher.example", "xn--"),
        ("RELAY_ALLOWED_ORIGINS", "https://a b.example", "no space"),
        ("RELAY_STATE_DIRECTORY", "x" * 300, "state.directory: 'xxx"),
        ("RELAY_ICE_HOSTS", ",", "empty list"),
        ("RELAY_OIDC_ALGORITHMS", ",", "empty list"),
        ("RELAY_INSTRUCTIONS", "a\udcff", "UTF-8"),
        ("RELAY_EGRESS_TURN_PASSWORD", "secret", "egress.turn_password is for egress.turn_url"),
        ("RELAY_ICE_ADVERTISE", "0.0.0.0", "reached"),
        ("RELAY_ICE_ADVERTISE", "10.0.0.256", "neither"),
        ("RELAY_ICE_HOSTS", "localhost", "not an IP address"),
        ("RELAY_POLICY_ALLOW_EMPTY", "yes", "neither true nor false"),
        ("RELAY_INSTRUCTIONS", "a\x1b[31m", "control character"),
        ("RELAY_INSTRUCTIONS", "ü" * 32_769, "65536 bytes"),
        ("RELAY_LOG_LEVEL", "verbose", "debug, info, warning, error"),
        ("RELAY_LIMITS_MAX_SESSIONS", "0", "outside"),
    ],
)
def test_bad_values_are_refused_with_a_reason(name, value, words):
    lines = problems({name: value})
    assert any(words in line for line in lines), lines


def test_plain_http_is_for_this_machine_or_for_the_explicit():
    assert load_settings(None, {"RELAY_UPSTREAM_ENDPOINT": "http://127.0.0.1:8090"}).upstream.endpoint
    insecure = {"RELAY_UPSTREAM_ENDPOINT": "http://azure:8090", "RELAY_UPSTREAM_ALLOW_INSECURE": "true"}
    assert load_settings(None, insecure).upstream.endpoint == "http://azure:8090"


def test_all_problems_are_reported_together_and_a_missing_tls_half_once():
    found = problems({"RELAY_HTTP_PORT": "x", "RELAY_LOG_LEVEL": "x", "RELAY_HTTP_TLS_CERT_FILE": __file__})
    assert len(found) == 3
    assert found[-1].startswith("http.tls_cert_file and http.tls_key_file")


def test_lists_read_the_same_from_both_sources(yaml_file):
    path = yaml_file("http:\n  trusted_proxies: [10.0.0.0/8, '::1']\nice:\n  advertise: auto, 203.0.113.7\n")
    settings = load_settings(path, {})
    assert settings.http.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1"))
    assert settings.ice.advertise == (Advertised("auto"), Advertised("203.0.113.7"))
    environ = {"RELAY_TRUSTED_PROXIES": "10.0.0.0/8, ::1", "RELAY_ICE_ADVERTISE": "auto,203.0.113.7"}
    assert dataclasses.replace(load_settings(None, environ), origins={}) == dataclasses.replace(settings, origins={})


def test_secrets_and_instructions_come_from_files_too(tmp_path, yaml_file):
    (tmp_path / "key").write_text("azure-key\n")
    (tmp_path / "clients").write_text("client-key-000001\nclient-key-000002\n")
    (tmp_path / "text").write_bytes(b"\xef\xbb\xbfBe brief.\r\nBe kind.\r\n")
    path = yaml_file(f"upstream:\n  api_key_file: {tmp_path}/key\n")
    environ = {"RELAY_CLIENT_KEYS_FILE": f"{tmp_path}/clients", "RELAY_INSTRUCTIONS_FILE": f"{tmp_path}/text"}
    settings = load_settings(path, environ)
    assert settings.upstream.api_key == Secret("azure-key")
    assert len(settings.clients.keys) == 2
    assert settings.policy.instructions == "Be brief.\nBe kind."
    both = problems(environ | {"RELAY_INSTRUCTIONS": "Other."}, path)
    assert "RELAY_INSTRUCTIONS_FILE: policy.instructions is already given at env RELAY_INSTRUCTIONS" in both[0]


def test_secrets_are_not_taken_from_the_settings_file_itself(yaml_file):
    path = yaml_file(f"upstream:\n  api_key: {CANARY}\n")
    [line] = problems(path=path)
    assert line.startswith(f"{path}:2: upstream.api_key is a secret")
    assert line.endswith("use upstream.api_key_file or RELAY_UPSTREAM_API_KEY")
    assert CANARY not in line


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file"), (b"", "empty"), (b"\xff\xfe", "UTF-8"), (b"x" * 70_000, "65536")]
)
def test_an_unusable_instructions_file_is_an_error(tmp_path, content, words):
    path = tmp_path / "text"
    if content is not None:
        path.write_bytes(content)
    [line] = problems({"RELAY_INSTRUCTIONS_FILE": str(path)})
    assert words in line


def test_the_sections_deadlines_are_those_of_a_session():
    ours = {item.name: item.default for item in dataclasses.fields(LimitSettings)}
    sessions = {item.name: item.default for item in dataclasses.fields(SessionLimits)}
    assert {name: ours[name] for name in ours if name in sessions} == sessions


def test_no_secret_and_no_instruction_text_is_ever_printed(yaml_file, tmp_path):
    environ = MINIMAL | {"RELAY_CLIENT_KEYS": CANARY, "RELAY_INSTRUCTIONS": f"{CANARY} and more"}
    settings = load_settings(None, environ)
    assert CANARY not in repr(settings) + str(settings) + json.dumps(settings.redacted()) + f"{settings.upstream}"
    assert settings.redacted()["policy.instructions"]["value"].startswith("(33 characters, sha256 ")
    assert settings.redacted()["clients.keys"]["value"] == "(1 set)"
    for name in ("RELAY_UPSTREAM_API_KEY", "RELAY_CLIENT_KEYS", "RELAY_INSTRUCTIONS"):
        assert CANARY not in "\n".join(problems(environ | {name: f"{CANARY}\x1b é"}))
    for text in (
        f"*{CANARY}",
        f"!{CANARY} x",
        f"&{CANARY} *{CANARY}",
        f"{{{CANARY}: 1}}",
        f"[[{CANARY}]]",
        f"'{CANARY}",
    ):
        assert CANARY not in "\n".join(problems(path=yaml_file(f"upstream:\n  api_key: {text}\n")))
    assert CANARY not in "\n".join(problems({"RELAY_UPSTREAM_ENDPOINT": f"ftp://u:{CANARY}@host/?k={CANARY}"}))


def test_a_secret_shows_itself_only_when_asked():
    secret = Secret(CANARY)
    assert secret.reveal() == CANARY
    assert CANARY not in f"{secret} {secret!r} {[secret]} {secret!s}"
    assert secret == Secret(CANARY)
    assert secret != Secret("other")
    assert secret != CANARY
    assert len({secret, Secret(CANARY)}) == 1


@given(st.dictionaries(st.sampled_from([spec.env for spec in catalogue()]), st.text(max_size=40), max_size=4))
def test_any_text_is_a_value_or_a_config_error(environ):
    try:
        settings = load_settings(None, environ)
    except ConfigError as error:
        assert str(error)  # noqa: PT017 - either outcome is right, silence is not
    else:
        json.dumps(settings.redacted())


def test_prices_are_a_list_in_yaml_and_one_text_in_the_environment(yaml_file):
    path = yaml_file("cost:\n  prices:\n    - gpt-realtime input_audio=32\n    - whisper minute=0.006\n")
    expected = (Prices("gpt-realtime", {"input_audio": 32.0}), Prices("whisper", {"minute": 0.006}))
    assert load_settings(path, {}).cost.prices == expected
    environ = {"RELAY_COST_PRICES": "gpt-realtime input_audio=32, whisper minute=0.006"}
    settings = load_settings(None, environ)
    assert settings.cost.prices == expected
    assert settings.redacted()["cost.prices"]["value"] == ["gpt-realtime input_audio=32", "whisper minute=0.006"]
    [line] = problems({"RELAY_COST_PRICES": "gpt-realtime input=32"})
    assert "'input' is not one of: input_text" in line
    [line] = problems({"RELAY_COST_PRICES": "a minute=1, a minute=2"})
    assert line == "cost.prices names a more than once"


def test_managed_policies_need_no_documents_and_take_no_instructions_and_want_a_store_that_lasts(tmp_path):
    managed = {name: value for name, value in MINIMAL.items() if name != "RELAY_INSTRUCTIONS"}
    managed |= {"RELAY_POLICY_MANAGED": "true"}
    settings = load_settings(None, managed)
    settings.require_servable()
    assert any("every policy that is published is gone" in warning for warning in settings.warnings)
    lasting = load_settings(None, managed | {"RELAY_STATE_DIRECTORY": str(tmp_path)})
    assert not any("is gone" in warning for warning in lasting.warnings)
    [line] = problems(managed | {"RELAY_INSTRUCTIONS": "Be brief."})
    assert "leave the instructions out" in line
