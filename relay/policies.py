"""The policies in force: loaded, watched, swapped as a whole, asked for each session; and the kill switch beside them.

A change is taken in whole or not at all: whatever fails between the files and the documents' own tests leaves the last
good set in force. Files are looked at once a second by name, size, time and inode: that works on every file system and
sees the swapped links of a mounted ConfigMap, which notifications of the operating system miss on many.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn, Protocol

from relay.core.kill_switch import KillSwitch
from relay.core.policy import EffectivePolicy
from relay.core.policy_resolve import Identity, PolicyRequest, Unresolved, UnresolvedReason
from relay.core.policy_rules import OnSinkFailure
from relay.errors import ApiError, ConfigError, ErrorCode
from relay.kill_file import KillFile
from relay.policy_sources import PolicySet, PolicySource, documents_at, one_policy
from relay.watched_files import Signature, signature

__all__ = ["Policies", "PolicyListener", "PolicySet", "PolicySource", "documents_at", "one_policy"]

POLL_SECONDS = 1.0
_MOST_TRIES = 5
_RETRY = {"retry-after": "5"}


class PolicyListener(Protocol):
    """Who is told what becomes of the policies."""

    def policies_loaded(self, revisions: Mapping[str, str], warnings: tuple[str, ...]) -> None:
        """Hear that a set is in force."""
        ...

    def policies_refused(self, problems: str) -> None:
        """Hear that files changed and cannot be put in force; the last good set stays."""
        ...

    def kill_switch_changed(self, switch: KillSwitch, unknown: tuple[str, ...]) -> None:
        """Hear whom the kill switch stops now, and which of the names in it no policy knows."""
        ...

    def policy_unresolved(self, reason: str, detail: str) -> None:
        """Hear that no policy was found for a session."""
        ...


class Policies:
    """The policies of one process. Building it loads them for the first time and raises ConfigError with every problem.

    `path` None: nothing is watched, and no file can hold the kill switch. `recordable` says whether decisions can be
    written down at this moment; `on_change` is called after every swap and every change of the kill switch.
    """

    def __init__(
        self,
        source: PolicySource,
        path: str | None,
        listener: PolicyListener,
        recordable: Callable[[], bool] = lambda: True,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._source = source
        self._path = None if path is None else Path(path)
        self._listener = listener
        self._recordable = recordable
        self._poll_seconds = poll_seconds
        self._asked = asyncio.Event()
        self._kill_file = KillFile(self._path)
        self._seen: Signature = ()
        self._tried: Signature = ()
        self._current = self._first_load()
        self._stored_switch = KillSwitch()
        self._filed_switch = self._switch = self._kill_file.read()
        listener.policies_loaded(self._current.revisions, self._current.warnings)
        if self._switch.active:
            self._tell_switch()

    @property
    def switch(self) -> KillSwitch:
        """Whom the kill switch stops: by its file, by the store, or both."""
        return self._switch

    @property
    def revisions(self) -> Mapping[str, str]:
        """The hash of each policy in force by name."""
        return self._current.revisions

    def put_in_force(self, policies: PolicySet) -> None:
        """Take a set that was found good elsewhere; running sessions take what acts on them before this returns."""
        self._current = policies
        self._listener.policies_loaded(policies.revisions, policies.warnings)
        self.on_change()

    def stop_also(self, switch: KillSwitch) -> None:
        """Stop whom the store's kill switch stops, beside the file's; acts at once."""
        self._stored_switch = switch
        self._join_switches()

    def admit(self, identity: Identity, model: str | None) -> EffectivePolicy:
        """The policy for a new session. Raises ApiError: 403 without one, 404 for a model not granted, 503."""
        if self._switch.stops(identity.tenant):
            raise _stopped()
        try:
            policy = self._resolve(identity, model)
        except Unresolved as error:
            self._listener.policy_unresolved(error.reason.value, str(error))
            if error.reason is UnresolvedReason.UNKNOWN_MODEL:
                raise _no_model() from None
            message = "No policy of the administrator allows this session."
            raise ApiError(403, ErrorCode.POLICY_VIOLATION, message) from None
        if self._switch.stops(identity.tenant, policy.name):
            raise _stopped()
        if not policy.deployment:
            self._listener.policy_unresolved("no_deployment", f"{policy.name}: names no deployment")
            raise _no_model()
        if policy.on_sink_failure is OnSinkFailure.FAIL_CLOSED and not self._recordable():
            message = "Sessions cannot be recorded as their policy asks; try again."
            raise ApiError(503, ErrorCode.DECISION_LOG_UNAVAILABLE, message, headers=_RETRY)
        return policy

    def admit_key(self, identity: Identity, model: str | None) -> EffectivePolicy | None:
        """The policy a key minted now would open a session under; None when that depends on the page that uses it.

        Raises ApiError as `admit` does.
        """
        if identity.origin is None and self._current.by_origin and self.now_for(identity, model) is None:
            return None
        return self.admit(identity, model)

    def now_for(self, identity: Identity, model: str | None) -> EffectivePolicy | None:
        """The policy this session would be opened under now; None if there is none any more."""
        try:
            return self._resolve(identity, model)
        except Unresolved:
            return None

    def readiness(self) -> dict[str, str]:
        """Why some session could not be opened now, as `{check: reason}`."""
        if self._current.fail_closed and not self._recordable():
            return {"decision_log": "cannot be written"}
        return {}

    def ask_reload(self) -> None:
        """Have everything read again soon, changed or not; a signal handler may call it."""
        self._asked.set()

    async def watch_switch(self) -> NoReturn:
        """Look at the kill switch for ever, by itself: it waits for no loading."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            self._filed_switch = await asyncio.to_thread(self._kill_file.read)
            self._join_switches()

    def _join_switches(self) -> None:
        switch = self._filed_switch.joined(self._stored_switch)
        if switch != self._switch:
            self._switch = switch
            self._tell_switch()
            self.on_change()

    def _tell_switch(self) -> None:
        switch, known = self._switch, self._current
        unknown = [f"policy {name}" for name in sorted(switch.policies - known.revisions.keys())]
        unknown += [f"tenant {name}" for name in sorted(switch.tenants - known.tenants)]
        self._listener.kill_switch_changed(switch, tuple(unknown))

    async def watch(self) -> NoReturn:
        """Look for changed documents for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._asked.wait()
            asked = self._asked.is_set()
            self._asked.clear()
            try:
                await self._look(asked=asked)
            except OSError as error:
                self._listener.policies_refused(f"{self._path}: cannot be looked at: {error.strerror}")
                self._tried = ()  # once they can be, they are loaded, and told of, also if nothing changed

    async def _look(self, *, asked: bool) -> None:
        """One look. A change is loaded once two looks saw the same: somebody may be in the midst of copying files."""
        seen = await asyncio.to_thread(signature, self._path)
        settled = seen == self._seen
        self._seen = seen
        if asked or (settled and seen != self._tried):
            await self._reload()

    def _first_load(self) -> PolicySet:
        for _ in range(_MOST_TRIES):
            self._seen = self._tried = signature(self._path)
            try:
                loaded = self._source()
            except ConfigError:
                if signature(self._path) == self._seen:
                    raise
                continue
            if signature(self._path) == self._seen:
                return loaded
        raise ConfigError(f"{self._path}: changes while it is read")

    async def _reload(self) -> None:
        """Load until nothing changed meanwhile: half of one version and half of another is neither."""
        for _ in range(_MOST_TRIES):
            self._seen = self._tried = await asyncio.to_thread(signature, self._path)
            loaded, refused = await self._load()
            if await asyncio.to_thread(signature, self._path) == self._seen:
                break
        else:
            loaded, refused = None, f"{self._path}: changes while it is read"
        if loaded is None:
            self._listener.policies_refused(refused)
            return
        self.put_in_force(loaded)

    async def _load(self) -> tuple[PolicySet | None, str]:
        """What was loaded, or why nothing was."""
        try:
            return await self._source.apart(), ""
        except ConfigError as error:
            return None, str(error)
        except Exception as error:  # noqa: BLE001 - whatever a file does to the loader, the last good set must stay
            return None, f"{type(error).__name__} while loading"

    def _resolve(self, identity: Identity, model: str | None) -> EffectivePolicy:
        return self._current.resolve(identity, PolicyRequest(model))


def _stopped() -> ApiError:
    return ApiError(403, ErrorCode.POLICY_VIOLATION, "Sessions are stopped by the administrator.")


def _no_model() -> ApiError:
    # The service's own words for a deployment that does not exist: not granted and not there look the same.
    return ApiError(404, ErrorCode.MODEL_NOT_FOUND, "The API deployment for this resource does not exist.")
