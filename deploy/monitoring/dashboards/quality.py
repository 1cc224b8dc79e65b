"""How calls sound: everything twice, the browser's leg on the left and the service's on the right."""

from __future__ import annotations

from deploy.monitoring.panels import HERE, Dashboard, Panel, Query, Row, Unit, lines, quantiles

_LEGS = (("downstream", "Browser"), ("upstream", "Service"))


def _both(title: str, unit: Unit, about: str, *histograms: str, by: tuple[str, ...] = ()) -> tuple[Panel, ...]:
    """Draw the same quantiles of both legs side by side."""
    return tuple(
        lines(
            f"{name}: {title}",
            unit,
            *(
                query
                for each in histograms
                for query in quantiles(each, *by, where=f'leg="{leg}"', shares=(0.5, 0.9, 0.99))
            ),
            about=about,
            width=12,
        )
        for leg, name in _LEGS
    )


def _rates(title: str, unit: Unit, about: str, metric: str, *by: str, only: str = "") -> tuple[Panel, ...]:
    legend = " ".join(f"{{{{{label}}}}}" for label in by)
    return tuple(
        lines(
            f"{name}: {title}",
            unit,
            Query(HERE.per_second(metric, *by, where=f'leg="{leg}"') + only, legend or title),
            about=about,
            width=12,
        )
        for leg, name in _LEGS
    )


QUALITY = Dashboard(
    "relay-quality",
    "Relay: call quality",
    "Left the leg to the browser, right the leg to the service. Bad on one side only tells whose network it is.",
    (
        Row(
            "Both legs",
            (
                *_both(
                    "packets lost",
                    Unit.SHARE,
                    "Each session every 10 s. in: before it reached us; out: as the peer"
                    " reports of what we sent. Above 5 % speech suffers.",
                    "relay_media_loss_ratio",
                    by=("direction",),
                ),
                *_both(
                    "jitter",
                    Unit.SECONDS,
                    "RFC 3550, of what arrives here. Above 50 ms players must wait longer.",
                    "relay_media_jitter_seconds",
                ),
                *_both("round trip", Unit.SECONDS, "By RTCP. Part of every answer's delay.", "relay_media_rtt_seconds"),
                *_both(
                    "added by the relay",
                    Unit.SECONDS,
                    "From the kernel's arrival time to after the send, of packets that"
                    " came in on this leg, about one a second. Promised: p99 below 10 ms.",
                    "relay_media_forward_seconds",
                ),
                *_rates(
                    "packets",
                    Unit.PACKETS,
                    "50 a second for each session that sounds.",
                    "relay_media_packets_total",
                    "direction",
                ),
                *_rates(
                    "packets that never arrived",
                    Unit.PACKETS,
                    "Gaps in what comes in here.",
                    "relay_media_packets_lost_total",
                ),
                *_rates(
                    "dropped, by cause",
                    Unit.PACKETS,
                    "Each cause: docs/reference/metrics.md.",
                    "relay_media_packets_dropped_total",
                    "cause",
                    only=" > 0",
                ),
                *_rates(
                    "sound from this side missing",
                    Unit.COUNT,
                    "Sessions in which nothing came in here while the other side sounded: one-way audio.",
                    "relay_media_one_way_seconds_total",
                ),
                *_rates(
                    "text waits for a slow peer",
                    Unit.COUNT,
                    "Sessions whose data channel is held up.",
                    "relay_channel_backpressure_seconds_total",
                ),
                *_rates(
                    "ways media takes",
                    Unit.PER_SECOND,
                    "New legs by transport. A sudden share of tcp or relay means that UDP is blocked somewhere.",
                    "relay_ice_pairs_total",
                    "transport",
                ),
            ),
        ),
        Row(
            "The browser's own view",
            (
                lines(
                    "Lost, as browsers see it",
                    Unit.SHARE,
                    *quantiles("relay_client_loss_ratio", "direction", shares=(0.5, 0.9)),
                    about="From clients that send their getStats. Compare with the left side above.",
                    width=6,
                ),
                lines("Jitter, as browsers see it", Unit.SECONDS, *quantiles("relay_client_jitter_seconds"), width=6),
                lines("Round trip, as browsers see it", Unit.SECONDS, *quantiles("relay_client_rtt_seconds"), width=6),
                lines(
                    "Reports of browsers",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_client_reports_total", "result"), "{{result}}"),
                    width=6,
                    about="refused: not as documented, or too many.",
                ),
                lines(
                    "Wait in the playback buffer",
                    Unit.SECONDS,
                    *quantiles("relay_client_buffer_seconds"),
                    width=12,
                    about="The largest part of what users feel as delay on a bad network.",
                ),
                lines(
                    "Sound made up",
                    Unit.SHARE,
                    *quantiles("relay_client_concealed_ratio", shares=(0.5, 0.9)),
                    width=12,
                    about="Samples the browser invented because packets were missing or late.",
                ),
            ),
        ),
        Row(
            "Clients that come and go",
            (
                lines(
                    "Clients whose checks stopped",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_ice_gaps_total"), "gaps"),
                    Query(HERE.per_second("relay_ice_restarts_total"), "ICE restarts"),
                ),
                lines(
                    "Sessions that wait for their client",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_session_waits_total", "reason"), "{{reason}}"),
                ),
                lines(
                    "Consent lost",
                    Unit.PER_SECOND,
                    Query(HERE.per_second("relay_ice_consent_lost_total", "leg"), "{{leg}}"),
                    about="Peers that gave no sign of life for limits.consent_seconds.",
                ),
            ),
        ),
    ),
)
