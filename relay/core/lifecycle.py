"""What a session is started from, the facts it sends up and the commands it takes: plain values, all serialisable.

A session holds no reference to the rest of the program; a media worker in another process can run it unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from relay.core.policy import EffectivePolicy
from relay.core.policy_rules import LimitRules
from relay.core.turn_facts import TurnFact
from relay.errors import EndReason, ErrorCode


class Dialect(StrEnum):
    """Which of the two protocols is spoken: GA (nested session objects) or the preview (flat ones)."""

    GA = "ga"
    PREVIEW = "preview"


class LegName(StrEnum):
    """One peer connection seen from the relay: to the browser, or to the service."""

    DOWNSTREAM = "downstream"
    UPSTREAM = "upstream"


class Stage(StrEnum):
    """The steps of setting up a leg; each is timed and has its own deadline."""

    MINT = "mint"
    CALL = "call"
    ICE = "ice"
    DTLS = "dtls"
    CHANNEL = "channel"
    POLICY = "policy"
    FIRST_AUDIO = "first_audio"


class Phase(StrEnum):
    """Where a session is in its life; `waiting` for its client, which has not come yet, or was there and is gone."""

    NEW = "new"
    NEGOTIATING = "negotiating"
    CONNECTING = "connecting"
    ACTIVE = "active"
    WAITING = "waiting"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Deadlines in seconds and bounds of one session."""

    ice_seconds: float = 15.0
    dtls_seconds: float = 10.0
    channel_seconds: float = 10.0
    policy_seconds: float = 10.0
    disconnected_seconds: float = 8.0
    consent_seconds: float = 30.0
    reattach_seconds: float = 15.0
    events_per_second: int = 100
    client_bytes_per_second: int = 131_072
    client_burst_bytes: int = 524_288
    outbox_bytes: int = 1_048_576
    packets_per_second: int = 400


@dataclass(frozen=True, slots=True)
class SessionStart:
    """Everything a session needs to begin.

    `offer` is the browser's SDP, None for a session that begins before its client comes; `dialect` is spoken by the
    browser, `service_dialect` by the service; `model` is the name the client asked for and is shown in echoes in place
    of the deployment's, `transcription_name` likewise. `service_names`: what members of the pool call it.
    What of the minted session is the client's, as far as the policy let it in: its `client_instructions`, its functions
    (None: not known, the service's echo tells) and the fields that it chose, by GA path.
    """

    session_id: str
    offer: str | None = field(repr=False)
    dialect: Dialect
    service_dialect: Dialect
    webrtc_filter: bool
    model: str
    policy: EffectivePolicy
    service_names: frozenset[str] = frozenset()
    transcription_name: str = "default"
    client_instructions: str | None = field(default=None, repr=False)
    client_functions: tuple[dict[str, Any], ...] | None = field(default=None, repr=False)
    client_fields: frozenset[str] = frozenset()
    limits: SessionLimits = field(default_factory=SessionLimits)


@dataclass(frozen=True, slots=True)
class LegCounters:
    """RTP and channel figures of one leg since its start; `dropped` is keyed by drop causes.

    `jitter_seconds`, `rtt_seconds` and `remote_loss` (0 to 1) are the latest known, None before the first report.
    `one_way_seconds` are those in which nothing came in here while the other leg's peer was heard,
    `backpressure_seconds` those in which text waited for this leg's peer.
    """

    packets_in: int = 0
    bytes_in: int = 0
    packets_out: int = 0
    bytes_out: int = 0
    packets_lost: int = 0
    jitter_seconds: float | None = None
    rtt_seconds: float | None = None
    remote_loss: float | None = None
    channel_bytes_in: int = 0
    channel_bytes_out: int = 0
    backpressure_seconds: int = 0
    one_way_seconds: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


def merged(before: LegCounters, after: LegCounters) -> LegCounters:
    """What two legs counted together, one after the other; figures that are the latest known are those of `after`."""

    def latest(name: str) -> float | None:
        value: float | None = getattr(after, name)
        return getattr(before, name) if value is None else value

    causes = before.dropped.keys() | after.dropped.keys()
    return LegCounters(
        packets_in=before.packets_in + after.packets_in,
        bytes_in=before.bytes_in + after.bytes_in,
        packets_out=before.packets_out + after.packets_out,
        bytes_out=before.bytes_out + after.bytes_out,
        packets_lost=before.packets_lost + after.packets_lost,
        jitter_seconds=latest("jitter_seconds"),
        rtt_seconds=latest("rtt_seconds"),
        remote_loss=latest("remote_loss"),
        channel_bytes_in=before.channel_bytes_in + after.channel_bytes_in,
        channel_bytes_out=before.channel_bytes_out + after.channel_bytes_out,
        backpressure_seconds=before.backpressure_seconds + after.backpressure_seconds,
        one_way_seconds=before.one_way_seconds + after.one_way_seconds,
        dropped={cause: before.dropped.get(cause, 0) + after.dropped.get(cause, 0) for cause in sorted(causes)},
    )


@dataclass(frozen=True, slots=True)
class SessionCounters:
    """What a session counted: both legs, and judged events as `{(leg the event came from, type, verdict): n}`."""

    downstream: LegCounters = field(default_factory=LegCounters)
    upstream: LegCounters = field(default_factory=LegCounters)
    events: dict[tuple[str, str, str], int] = field(default_factory=dict)


# --- facts: what a session tells ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What is to be told is ready: `answer` for the browser, if it has offered, `service_offer` for the service."""

    answer: str | None = field(repr=False)
    service_offer: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class OfferRefused:
    """The browser's offer cannot be served; `message` is public."""

    message: str


@dataclass(frozen=True, slots=True)
class ServiceAnswerRefused:
    """The service's answer cannot be used (no Opus, unreadable); `message` is for the log."""

    message: str


@dataclass(frozen=True, slots=True)
class StageDone:
    """A stage of one leg was reached after `seconds`."""

    leg: LegName
    stage: Stage
    seconds: float


@dataclass(frozen=True, slots=True)
class PhaseChanged:
    """The session entered `phase`."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision about an event that was not a plain forward; content is never in it.

    In `audit` mode `verdict` is what was done and `would_be` what would have been; `content_sha256` is of the event's
    text as it came in.
    """

    leg: LegName
    event_type: str
    verdict: str
    rule: str
    mode: str = "enforce"
    would_be: str | None = None
    content_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class PolicyTaken:
    """A policy that replaced the session's is confirmed in force; `revision` is its own."""

    revision: str


@dataclass(frozen=True, slots=True)
class TransportUsed:
    """A leg runs over this `transport` from now on: udp, tcp, or relay where a TURN server is in between."""

    leg: LegName
    transport: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The client's checks have stopped for `seconds`; that ends nothing."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The client's checks are back after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class ClientGone:
    """The client is gone; its session waits `seconds` for it, then ends for `reason`. `detail` is for the log."""

    reason: EndReason
    detail: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Reanswered:
    """Offer `number` is answered; `restart` if ICE is restarted by it, and not by an earlier one of the same words."""

    number: int
    answer: str = field(repr=False)
    restart: bool


@dataclass(frozen=True, slots=True)
class ReofferRefused:
    """Offer `number` is refused; `message` is public. After `retry_seconds`, if given, another may be served."""

    number: int
    code: ErrorCode
    message: str
    retry_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Reattached:
    """A new peer connection of the client took over, `seconds` after its offer came."""

    seconds: float


@dataclass(frozen=True, slots=True)
class ReattachFailed:
    """A new peer connection of the client did not come up; what was there before goes on. `detail` is for the log."""

    reason: EndReason
    detail: str


@dataclass(frozen=True, slots=True)
class Ending:
    """The end is decided; the client is being told and both legs are being closed."""

    reason: EndReason


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over, both legs are closed. `detail` is for the log and holds no content."""

    reason: EndReason
    detail: str
    counters: SessionCounters


@dataclass(frozen=True, slots=True)
class MediaSample:
    """One leg's media in the last seconds; None where nothing could be observed.

    `loss_in` is the share lost before it reached the relay, `loss_out` what the peer reports of the relay's packets.
    `forward_seconds` are delays of single packets that came in on this leg, from the kernel's arrival time to after
    the sending on the other leg.
    """

    leg: LegName
    loss_in: float | None = None
    loss_out: float | None = None
    jitter_seconds: float | None = None
    rtt_seconds: float | None = None
    forward_seconds: tuple[float, ...] = ()


ClientFact = TransportUsed | Disconnected | Reconnected | ClientGone | Reattached | ReattachFailed
ReofferFact = Reanswered | ReofferRefused
# What is written down as it comes.
DiaryFact = StageDone | Decided | PolicyTaken | ClientFact | TurnFact | MediaSample
Fact = Negotiated | OfferRefused | ServiceAnswerRefused | DiaryFact | PhaseChanged | ReofferFact | Ending | Ended


# --- commands: what a session is told ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServiceAnswered:
    """The service accepted the call with this SDP answer."""

    answer: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ToldRefusal:
    """A refusal that came when the door had answered already: what the client hears of it, in public words."""

    kind: str
    code: ErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class EndSession:
    """End now, for this reason; the first reason wins. The client is told of the `refusal`, too, if there is one."""

    reason: EndReason
    detail: str = ""
    refusal: ToldRefusal | None = None


@dataclass(frozen=True, slots=True)
class NoticeEnding:
    """Tell the client that the session will end in `seconds_left`."""

    reason: EndReason
    seconds_left: int


@dataclass(frozen=True, slots=True)
class ReplacePolicy:
    """Put another policy in force in this session: its text at the service, its rules for every event from now on."""

    policy: EffectivePolicy


@dataclass(frozen=True, slots=True)
class ReplaceLimits:
    """Hold the session to other limits; its policy stays."""

    limits: LimitRules


@dataclass(frozen=True, slots=True)
class Reoffered:
    """The client offered again, to restart ICE or to take over with a new peer connection.

    `Reanswered` or `ReofferRefused` with the same `number` follows, unless the session ends.
    """

    number: int
    offer: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClientOffered:
    """The client of a session that began without one has come; answered as `Reoffered` is."""

    number: int
    offer: str = field(repr=False)
    webrtc_filter: bool


Command = ServiceAnswered | EndSession | NoticeEnding | ReplacePolicy | ReplaceLimits | Reoffered | ClientOffered
