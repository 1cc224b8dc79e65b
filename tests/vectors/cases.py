"""Every vector of the engine as data, in the order of their numbers; `vectors.case` says what a case is."""

from __future__ import annotations

from vectors import cases_events, cases_items, cases_response, cases_server, cases_session
from vectors.case import Case

CASES: tuple[Case, ...] = tuple(
    sorted(
        (
            *cases_session.CASES,
            *cases_response.CASES,
            *cases_items.CASES,
            *cases_events.CASES,
            *cases_server.CASES,
        ),
        key=lambda case: case.number,
    )
)
