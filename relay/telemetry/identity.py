"""What is told of identity: tokens refused, the issuers' keys, the keys of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.telemetry.words import ISSUERS, TOKEN_REFUSALS, fold

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from relay.telemetry.families import Families


class IdentityTelemetry:
    """The facts of who is let in. `section` is the settings' section that names an issuer."""

    def __init__(self, families: Families, log: FilteringBoundLogger) -> None:
        self._log = log
        self._refused = families.counter(
            "relay_oidc_refused_total",
            "Tokens that were not taken",
            "section",
            "reason",
            each=[(section, reason) for section in ISSUERS for reason in sorted(TOKEN_REFUSALS)],
        )
        self._fetches = families.counter(
            "relay_oidc_fetches_total",
            "Times an issuer was asked for its keys",
            "section",
            "result",
            each=[(section, result) for section in ISSUERS for result in ("ok", "failed")],
        )
        self._age = families.gauge(
            "relay_oidc_keys_age_seconds", "Seconds since an issuer's keys were fetched", "section"
        )
        self._stored_age = families.gauge(
            "relay_stored_keys_age_seconds", "Seconds since the keys of the store were read; 0 without a store"
        )

    def token_refused(self, section: str, reason: str) -> None:
        """Record a token that was not taken."""
        self._refused.labels(section, fold(reason, TOKEN_REFUSALS)).inc()

    def keys_asked(self, section: str, wrong: str | None) -> None:
        """Record that an issuer was asked for its keys; `wrong` is None when it gave them."""
        self._fetches.labels(section, "ok" if wrong is None else "failed").inc()
        if wrong is not None:
            self._log.warning("oidc_keys_not_fetched", section=section, detail=wrong)

    def watch_issuer(self, section: str, age: Callable[[], float]) -> None:
        """Have the age of an issuer's keys read when scraped."""
        self._age.labels(section).set_function(age)

    def watch_stored(self, age: Callable[[], float]) -> None:
        """Have the age of what is known of the store's keys read when scraped."""
        self._stored_age.set_function(age)
