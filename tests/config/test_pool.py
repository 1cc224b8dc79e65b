"""The upstream pool in the settings: members, what is missing of them, and keys that are never shown."""

from __future__ import annotations

import json

import pytest

from relay.config import ConfigError, PoolMember, Secret, UpstreamAuth, UpstreamProtocol, load_settings

KEY = "canary-0123456789-secret"
ENDPOINT = "endpoint=https://a.example"
MINIMAL = {
    "RELAY_UPSTREAM_DEPLOYMENT": "gpt-realtime",
    "RELAY_CLIENT_KEYS": "client-key-000001",
    "RELAY_INSTRUCTIONS": "Be brief.",
}


def load(pool: str, path: str | None = None, **more: str):
    return load_settings(path, MINIMAL | ({"RELAY_UPSTREAM_POOL": pool} if pool else {}) | more)


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    return path


def test_members_are_read_the_same_from_both_sources(tmp_path, key_file):
    one = f"sweden {ENDPOINT}/ region=swedencentral weight=3 api_key_file={key_file}"
    two = "east endpoint=https://b.example region=eastus2 auth=entra deployment=rt-us"
    file = tmp_path / "relay.yaml"
    file.write_text(f"upstream:\n  pool:\n    - {one}\n    - {two}\n")
    settings = load(f"{one}, {two}")
    settings.require_servable()
    assert load("", str(file)).upstream == settings.upstream
    upstream = settings.upstream
    assert upstream.pool == (
        PoolMember("sweden", "https://a.example", "swedencentral", 3, api_key=Secret(KEY)),
        PoolMember("east", "https://b.example", "eastus2", deployment="rt-us", entra=True),
    )
    assert upstream.regions == ("swedencentral", "eastus2")
    sweden, east = (upstream.of_member(each) for each in upstream.members)
    assert (sweden.endpoint, sweden.deployment, sweden.auth, sweden.api_key) == (
        "https://a.example", "gpt-realtime", UpstreamAuth.KEY, Secret(KEY),
    )  # fmt: skip
    assert (east.endpoint, east.deployment, east.auth, east.api_key) == (
        "https://b.example", "rt-us", UpstreamAuth.ENTRA, None,
    )  # fmt: skip


def test_without_a_pool_the_settings_are_its_one_member():
    settings = load("", RELAY_UPSTREAM_ENDPOINT="https://one.example", RELAY_UPSTREAM_API_KEY=KEY,
                    RELAY_UPSTREAM_REGION="swedencentral")  # fmt: skip
    [member] = settings.upstream.members
    assert (member.name, member.region, member.weight) == ("default", "swedencentral", 1)
    assert settings.upstream.of_member(member) == settings.upstream


def test_one_identity_can_be_for_all(key_file):
    upstream = load(f"a {ENDPOINT}, b endpoint=https://b.example api_key_file={key_file}", RELAY_UPSTREAM_AUTH="entra")
    assert [upstream.upstream.of_member(each).auth for each in upstream.upstream.pool] == ["entra", "key"]


def test_the_previews_address_is_built_from_each_region_and_missed_without():
    preview = {"RELAY_UPSTREAM_PROTOCOL": UpstreamProtocol.AZURE_PREVIEW.value}
    settings = load(f"a {ENDPOINT} region=eastus2 api_key={KEY}, b {ENDPOINT} api_key={KEY}", **preview)
    assert settings.upstream.pool[0].webrtc_endpoint == "https://eastus2.realtimeapi-preview.ai.azure.com"
    with pytest.raises(ConfigError, match="b: has no region"):
        settings.require_servable()


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        ("a", "a: has no endpoint"),
        ("Sweden endpoint=https://a.example", "is not a name of a member"),
        (f"a {ENDPOINT}", "give api_key_file, or auth=entra"),
        (f"a {ENDPOINT}/openai/v1 api_key={KEY}", "a: endpoint: leave out '/openai/v1'"),
        (f"a {ENDPOINT} {ENDPOINT} api_key={KEY}", "endpoint is given twice"),
        (f"a {ENDPOINT} weight=1001 api_key={KEY}", "1001 is outside 0 to 1000"),
        (f"a {ENDPOINT} api_key={KEY} auth=entra", "give one of"),
        (f"a {ENDPOINT} auth=key", "can only be entra"),
        (f"a {ENDPOINT} api_kye={KEY}", "api_kye"),
        (f"a {ENDPOINT} {KEY}", "a is not one of"),
        (f"a {ENDPOINT} api_key_file=/nowhere", "'/nowhere' cannot be read"),
        (f"a {ENDPOINT} api_key={KEY}, a endpoint=https://b.example api_key={KEY}", "names a more than once"),
        (f"a endpoint=http://a.example api_key={KEY}", "a: endpoint: the credential would travel unencrypted"),
    ],
)
def test_what_is_wrong_with_a_member_is_told_without_its_key(pool, words):
    with pytest.raises(ConfigError) as error:
        load(pool)
    assert words in str(error.value)
    assert KEY not in str(error.value)


def test_a_pool_stands_alone_and_is_bounded():
    single = {"RELAY_UPSTREAM_ENDPOINT": "https://one.example", "RELAY_UPSTREAM_API_KEY": KEY}
    with pytest.raises(ConfigError) as error:
        load(f"a {ENDPOINT} api_key={KEY}", **single)
    assert [line.partition(" ")[0] for line in str(error.value).splitlines()] == [
        "upstream.endpoint",
        "upstream.api_key",
    ]
    with pytest.raises(ConfigError, match="at most 32"):
        load(", ".join(f"a{number} {ENDPOINT} api_key={KEY}" for number in range(33)))
    with pytest.raises(ConfigError, match="entra is Azure's"):
        load(f"a {ENDPOINT} auth=entra", RELAY_UPSTREAM_PROTOCOL="openai")


def test_a_key_stands_in_the_environment_or_a_file_and_is_never_shown(tmp_path, key_file):
    file = tmp_path / "relay.yaml"
    file.write_text(f"upstream:\n  pool:\n    - a {ENDPOINT} api_key={KEY}\n")
    with pytest.raises(ConfigError, match="does not belong in this file") as error:
        load("", str(file))
    assert KEY not in str(error.value)
    settings = load(f"a {ENDPOINT} api_key={KEY}, b {ENDPOINT} api_key_file={key_file}")
    assert KEY not in repr(settings) + str(settings.upstream.pool[0]) + json.dumps(settings.redacted())
    assert settings.redacted()["upstream.pool"]["value"][0] == "a endpoint=https://a.example weight=1 api_key=(set)"
