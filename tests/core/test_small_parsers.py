"""A client's figures, a client's trace, an operator's prices: what is read and what is refused."""

from __future__ import annotations

import pytest

from relay.config_prices import Prices, prices
from relay.core.client_stats import ClientStats, client_stats
from relay.core.prices import cost
from relay.core.traceparent import TraceParent, parse_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_figures_are_clamped():
    told = {"rtt_seconds": 99, "jitter_seconds": -1.0, "loss_in": 10**400, "loss_out": None, "concealed": 0.25}
    assert client_stats(told) == ClientStats(10.0, 0.0, None, 1.0, None, 0.25)


@pytest.mark.parametrize(
    "told",
    [
        {},
        [],
        None,
        {"rtt_seconds": "0.1"},
        {"rtt_seconds": True},
        {"rtt_seconds": float("nan")},
        {"rtt_seconds": float("inf")},
        {"rtt_seconds": 0.1, "user": "x"},
        {"rtt_seconds": {"a": 1}},
    ],
)
def test_what_is_no_report_is_none(told):
    assert client_stats(told) is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"00-{TRACE}-{SPAN}-01", TraceParent(TRACE, SPAN, sampled=True)),
        (f"00-{TRACE}-{SPAN}-00", TraceParent(TRACE, SPAN, sampled=False)),
        (f"cc-{TRACE}-{SPAN}-03-what-the-future-brings", TraceParent(TRACE, SPAN, sampled=True)),
        (None, None),
        ("", None),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}", None),
        (f"00-{TRACE}-{SPAN}-01\n", None),
    ],
)
def test_a_traceparent_is_read_as_the_standard_says(header, expected):
    assert parse_traceparent(header) == expected


def test_prices_are_written_as_they_are_read():
    text = "gpt-realtime input_text=4 cached_audio=0.4 minute=0.006"
    found = prices(text)
    assert found == Prices("gpt-realtime", {"input_text": 4.0, "cached_audio": 0.4, "minute": 0.006})
    assert str(found) == text
    tokens = {("input", "text"): 250_000, ("input", "cached_audio"): 1_000_000, ("output", "audio"): 5}
    assert cost(found.dollars, tokens, 600.0) == pytest.approx(1.0 + 0.4 + 0.06)


@pytest.mark.parametrize(
    "text",
    ["gpt-realtime", "gpt-realtime input=4", "gpt-realtime input_text=", "gpt realtime input_text=4", "x minute=-1"],
)
def test_prices_that_cannot_be_read_say_why(text):
    with pytest.raises(ValueError, match=r"is not one of|gives no amount|at least"):
        prices(text)
