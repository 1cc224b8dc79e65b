"""Reading offers and answers, writing ours; vectors V190 to V206 where they concern the description."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.sdp import Fingerprint, SdpError, parse_answer, parse_offer
from relay.core.sdp_build import LocalCandidate, LocalTransport, answer_setup, build_answer, build_service_offer

DIGEST = ":".join(["AB"] * 32)

# As Chromium posts it straight after setLocalDescription: no candidates, actpass, many codecs.
CHROMIUM = "\r\n".join(
    [
        "v=0", "o=- 4611731400430051336 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0 1",
        "a=extmap-allow-mixed", "a=msid-semantic: WMS stream",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126", "c=IN IP4 0.0.0.0", "a=rtcp:9 IN IP4 0.0.0.0",
        "a=ice-ufrag:EsAw", "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1", "a=ice-options:trickle",
        f"a=fingerprint:sha-256 {DIGEST}", "a=setup:actpass", "a=mid:0",
        "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level", "a=sendrecv", "a=msid:stream track", "a=rtcp-mux",
        "a=rtcp-rsize", "a=rtpmap:111 opus/48000/2", "a=rtcp-fb:111 transport-cc",
        "a=fmtp:111 minptime=10;useinbandfec=1", "a=rtpmap:63 red/48000/2", "a=rtpmap:9 G722/8000",
        "a=rtpmap:0 PCMU/8000", "a=ssrc:3735928559 cname:x",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0", "a=ice-ufrag:EsAw",
        "a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1", "a=ice-options:trickle", f"a=fingerprint:sha-256 {DIGEST}",
        "a=setup:actpass", "a=mid:1", "a=sctp-port:5000", "a=max-message-size:262144", "",
    ]
)  # fmt: skip

# Azure GA as recorded: session-level fingerprint, candidates in the first section only, a ufrag outside ice-char.
AZURE = "\r\n".join(
    [
        "v=0", "o=- 7342893742 1784852237 IN IP4 0.0.0.0", "s=-", "t=0 0", f"a=fingerprint:sha-256 {DIGEST}",
        "a=group:BUNDLE 0 1", "m=audio 9 UDP/TLS/RTP/SAVPF 96 0 8", "c=IN IP4 0.0.0.0", "a=setup:active", "a=mid:0",
        "a=ice-ufrag:DFuboQHH/realtime-api-vmss-prod-eastus2-4000005", "a=ice-pwd:abcdefghijklmnopqrstuvwx",
        "a=rtcp-mux", "a=rtcp-rsize", "a=rtpmap:96 opus/48000/2", "a=fmtp:96 minptime=10;useinbandfec=1",
        "a=rtpmap:0 PCMU/8000", "a=ssrc:42 cname:realtimeapi", "a=msid:realtimeapi audio", "a=sendrecv",
        "a=candidate:1 1 udp 2130706431 20.1.2.3 3478 typ host ufrag x",
        "a=candidate:1 2 udp 2130706430 20.1.2.3 3478 typ host",
        "a=candidate:2 1 tcp 1671430143 20.1.2.3 3478 typ host tcptype passive",
        "a=candidate:3 1 udp 1 host.local 3478 typ host", "a=end-of-candidates",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0", "a=setup:active", "a=mid:1",
        "a=sctp-port:5000", "a=max-message-size:1073741823",
        "a=ice-ufrag:DFuboQHH/realtime-api-vmss-prod-eastus2-4000005", "a=ice-pwd:abcdefghijklmnopqrstuvwx", "",
    ]
)  # fmt: skip

LOCAL = LocalTransport(
    ufrag="0123456789abcdef", pwd="p" * 32, fingerprint=Fingerprint("sha-256", DIGEST), setup="passive", ssrc=77,
    session_number=5, ice_lite=True,
    candidates=tuple(LocalCandidate("udp", host, 8443) for host in ("192.0.2.1", "192.0.2.9")),
)  # fmt: skip


def test_v190_chromium_offer():
    offer = parse_offer(CHROMIUM)
    assert (offer.ufrag, offer.pwd, offer.setup) == ("EsAw", "P2uYro0UCOQ4zxjKXaWCBui1", "actpass")
    assert offer.origin == "- 4611731400430051336"
    assert offer.audio.payload_type == 111
    assert offer.audio.direction == "sendrecv"
    assert offer.data is not None
    assert (offer.data.mid, offer.data.sctp_port, offer.data.max_message_bytes) == ("1", 5000, 262144)
    assert offer.fingerprints == (Fingerprint("sha-256", DIGEST),)


def test_azure_answer_as_recorded():
    answer = parse_answer(AZURE)
    assert answer.setup == "active"
    assert answer.audio.payload_type == 96
    assert [(each.transport, each.host, each.port, each.tcp_type) for each in answer.candidates] == [
        ("udp", "20.1.2.3", 3478, None),
        ("tcp", "20.1.2.3", 3478, "passive"),
    ]
    assert not answer.ice_lite
    assert parse_answer(AZURE.replace("s=-", "s=-\r\na=ice-lite", 1)).ice_lite


def test_candidates_are_taken_from_whichever_section_has_them():
    lines = AZURE.split("\r\n")
    moved = [line for line in lines if not line.startswith("a=candidate")]
    moved[-1:-1] = [line for line in lines if line.startswith("a=candidate")]
    assert parse_answer("\r\n".join(moved)).candidates == parse_answer(AZURE).candidates
    doubled = AZURE + "\r\n".join(line for line in lines if line.startswith("a=candidate"))
    assert parse_answer(doubled).candidates == parse_answer(AZURE).candidates


def test_our_answer_reads_back_and_repeats_the_transport_in_every_section():
    text = build_answer(parse_offer(CHROMIUM), LOCAL)
    answer = parse_answer(text)
    assert answer.audio.payload_type == 111
    assert answer.ice_lite
    for needed in ("a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:", "a=setup:passive", "a=candidate:"):
        audio, data = text.split("m=application")
        assert needed in audio, needed
        assert needed in data, needed
    assert "a=msid:relay audio" in text
    assert "a=ssrc:77 " in text
    assert "a=fmtp:111 minptime=10;useinbandfec=1" in text
    assert "a=extmap" not in text
    assert text.index("m=audio") < text.index("m=application")


def test_nothing_of_the_offer_but_mids_and_payload_type_is_in_the_answer():
    text = build_answer(parse_offer(CHROMIUM), LOCAL)
    assert "EsAw" not in text
    assert "P2uYro0UCOQ4zxjKXaWCBui1" not in text


@pytest.mark.parametrize(("offered", "answered"), [("sendrecv", "sendrecv"), ("recvonly", "sendonly"),
                                                   ("sendonly", "recvonly"), ("inactive", "inactive")])  # fmt: skip
def test_direction_is_answered(offered, answered):
    text = build_answer(parse_offer(CHROMIUM.replace("a=sendrecv", f"a={offered}")), LOCAL)
    assert f"\r\na={answered}\r\n" in text


@pytest.mark.parametrize(
    ("offered", "answered"), [("actpass", "passive"), ("active", "passive"), ("passive", "active")]
)
def test_we_are_passive_wherever_we_may(offered, answered):
    assert answer_setup(offered) == answered


def test_v193_no_audio_is_refused_in_the_services_words():
    data_only = CHROMIUM[: CHROMIUM.index("m=audio")] + CHROMIUM[CHROMIUM.index("m=application") :]
    with pytest.raises(SdpError, match="Offer did not have an audio media section"):
        parse_offer(data_only)


def test_v194_audio_alone_is_accepted():
    offer = parse_offer(CHROMIUM[: CHROMIUM.index("m=application")].replace("BUNDLE 0 1", "BUNDLE 0"))
    assert offer.data is None
    assert "m=application" not in build_answer(offer, LOCAL)


def test_v195_v196_further_sections_are_rejected_with_port_0():
    audio = CHROMIUM[CHROMIUM.index("m=audio") : CHROMIUM.index("m=application")]
    video = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:v\r\na=rtpmap:96 VP8/90000\r\n"
    text = build_answer(parse_offer(CHROMIUM + audio.replace("a=mid:0", "a=mid:2") + video), LOCAL)
    kinds = [line.split()[:2] for line in text.split("\r\n") if line.startswith("m=")]
    assert [each[0] for each in kinds] == ["m=audio", "m=application", "m=audio", "m=video"]
    assert [each[1] == "0" for each in kinds] == [False, False, True, True]
    assert "a=group:BUNDLE 0 1\r\n" in text


@pytest.mark.parametrize(
    "replacement",
    [
        ("sha-256", "sha-1"),
        (f"a=fingerprint:sha-256 {DIGEST}", "a=x"),
        (DIGEST, DIGEST[:-3]),
        (DIGEST, DIGEST.replace("AB", "GZ")),
    ],
)
def test_v203_bad_fingerprints_are_refused(replacement):
    with pytest.raises(SdpError, match="fingerprint"):
        parse_offer(CHROMIUM.replace(*replacement))


def test_v203_two_different_fingerprints_are_refused():
    other = ":".join(["CD"] * 32)
    head, tail = CHROMIUM.split("m=application")
    with pytest.raises(SdpError, match="different"):
        parse_offer(f"{head}m=application{tail.replace(DIGEST, other)}")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("a=rtpmap:111 opus/48000/2", "a=rtpmap:111 G729/8000", "Opus"),  # V204
        ("a=rtcp-mux\r\n", "", "rtcp-mux"),
        ("a=group:BUNDLE 0 1", "a=group:BUNDLE 0", "BUNDLE"),
        ("UDP/TLS/RTP/SAVPF", "RTP/AVP", "secure"),
        ("a=ice-ufrag:EsAw", "a=ice-ufrag:Es", "ice-ufrag"),
        ("a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1", "a=ice-pwd:short", "ice-pwd"),
        ("a=setup:actpass", "a=setup:sideways", "set-up"),
        ("a=sctp-port:5000", "a=sctp-port:70000", "number"),
        ("a=sctp-port:5000", "a=sctp-port:٣", "number"),
        ("v=0", "v=1", "v=0"),
        ("t=0 0", "t=0\x00 0", "control"),
        ("t=0 0", "junk", "malformed"),
        ("m=audio 9", "m=audio nine", "malformed"),
        ("a=mid:0", "a=mid:" + "x" * 65, "mid"),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_reason(old, new, words):
    with pytest.raises(SdpError, match=words):
        parse_offer(CHROMIUM.replace(old, new))


@pytest.mark.parametrize(
    "text",
    ["", "\r\n", "v=0", "v=0\r\n" * 5000, "x" * 70_000, "v=0\r\n" + "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n" * 1000],
)
def test_v202_hostile_descriptions_are_refused(text):
    with pytest.raises(SdpError):
        parse_offer(text)


def test_v202_candidates_of_an_offer_are_not_even_read():
    hostile = "".join(f"a=candidate:{n} 1 udp 1 10.0.0.{n % 255} 22 typ host\r\n" for n in range(900))
    assert parse_offer(CHROMIUM + hostile + "a=end-of-candidates\r\n").candidates == ()


def test_line_feeds_alone_are_read():
    assert parse_offer(CHROMIUM.replace("\r\n", "\n")) == parse_offer(CHROMIUM)


def test_service_offer_has_opus_alone_and_gives_no_address():
    text = build_service_offer(LocalTransport("u" * 16, "p" * 32, LOCAL.fingerprint, "actpass", 9, 1))
    offer = parse_offer(text)
    assert offer.audio.payload_type == 111
    assert offer.setup == "actpass"
    assert "a=candidate" not in text
    assert "end-of-candidates" not in text
    assert text.count("a=rtpmap:") == 1


@given(st.text(max_size=400))
def test_any_text_is_refused_or_read(text):
    for form in (text, CHROMIUM + text, "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n" + text):
        try:
            parse_offer(form)
        except SdpError as error:
            assert str(error)  # noqa: PT017 - the point is that nothing else is raised


@pytest.mark.parametrize(
    ("line", "origin"),
    [
        ("o=mozilla...THIS_IS_SDPARTA-99.0 84 3 IN IP4 0.0.0.0", "mozilla...THIS_IS_SDPARTA-99.0 84"),
        ("o=- x 2 IN IP4 127.0.0.1", ""),
        (f"o=- {'1' * 33} 2 IN IP4 127.0.0.1", ""),
        ("b=AS:1", ""),
    ],
)
def test_the_origin_of_an_offer(line, origin):
    """What makes an offer one of the same peer connection (RFC 8866 section 5.2); without it, it is another's."""
    offer = CHROMIUM.replace("o=- 4611731400430051336 2 IN IP4 127.0.0.1", line)
    assert parse_offer(offer).origin == origin
