"""What the session at the service has to be, and what it is as its echoes tell: one value, and how the two compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from relay.core.asked import Asked
from relay.core.dialect import preview_holds
from relay.core.event_ledger import Asker, Brought, EventLedger
from relay.core.lifecycle import Dialect
from relay.core.session_demands import Demands, Proof, ToolsShown, compare_tools, demands, unproved
from relay.core.tool_rules import client_functions

if TYPE_CHECKING:
    from relay.core.policy import EffectivePolicy

_VOICE = "audio.output.voice"


@dataclass(frozen=True, slots=True)
class Drift:
    """In what the service's session is not what it has to be."""

    text: bool = False
    prompt: bool = False
    tools: ToolsShown = ToolsShown.AS_ASKED
    fields: Demands = field(default_factory=Demands)

    @property
    def serious(self) -> bool:
        """Whether something else than the policy rules there: other instructions, other tools, a lock undone."""
        return self.text or self.prompt or self.tools is ToolsShown.OTHERS or bool(self.fields.locked)

    @property
    def slight(self) -> bool:
        """Whether a value lies outside of what the policy bounds, or a tool is worded in another way."""
        return bool(self.fields.bounded) or self.tools is ToolsShown.REWORDED


class InForce:
    """Keeps what was asked of the service, and compares the service's echoes with it.

    The service answers updates in order, and an echo in between still shows what was before: an echo is compared with
    what the updates answered so far amount to. Fields are compared with the rules, which leave most to the client.
    """

    def __init__(self, policy: EffectivePolicy, service: Dialect, brought: Brought | None, text: str | None) -> None:
        """`brought` is what of the minted session is the client's; None: its text is `text`, and tools are as shown."""
        self.session: dict[str, Any] = {}
        self.shown_bytes = 0
        self.created: dict[str, Any] | None = None
        self.repaired = False
        self.gate_shut = False
        # When an own update has to be answered, Unix time; None while none is due or no time is known.
        self.deadline: float | None = None
        self.asked = Asked(policy, Brought(text) if brought is None else brought)
        self._service = service
        self._tools_told = brought is not None
        self._mended: set[str] = set()
        self._compared: tuple[Any, Any, ToolsShown] = (None, None, ToolsShown.AS_ASKED)

    def under(self, policy: EffectivePolicy) -> None:
        """Other rules apply, and what was put right under the ones before counts no more."""
        self.asked.come_under(policy)
        self._mended.clear()
        self.repaired = False

    def take(self, session: Any, shown_bytes: int) -> None:
        """Keep the service's session, GA shape, as the state of things; it took so many bytes to write."""
        self.session = session if isinstance(session, dict) else {}
        self.shown_bytes = shown_bytes
        if not self._tools_told:
            self._tools_told = True
            self.asked.minted_with(client_functions(self.session.get("tools"), self.asked.policy.tools))

    # --- how they compare ------------------------------------------------------------------------------------------

    def drift(self) -> Drift:
        """In what the last echo is not what the answers so far have to have made of it."""
        return Drift(
            text=not self._shows(self.asked.text),
            prompt=self._has_foreign_prompt(),
            tools=self._compare_tools(),
            fields=demands(self.asked.policy, self.session),
        )

    def mend_once(self, drift: Drift) -> Drift:
        """What of a slight drift was not mended before, to be mended now."""
        bounded = {path: value for path, value in drift.fields.bounded.items() if path not in self._mended}
        self._mended.update(bounded)
        tools = drift.tools
        if tools is ToolsShown.REWORDED and "tools" in self._mended:
            tools = ToolsShown.AS_ASKED
        elif tools is ToolsShown.REWORDED:
            self._mended.add("tools")
        return Drift(tools=tools, fields=Demands(bounded=bounded))

    def unsettled(self, ledger: EventLedger) -> Drift:
        """All that is not proved to be as a policy wants that takes another one's place.

        Proof is an echo that shows it, with no update under way that could change it.
        """
        fields = unproved(self.asked.policy, self.session, Proof(self.asked.sent, self.asked.chosen))
        for update in ledger.pending():
            later = demands(self.asked.policy, update)
            fields.locked.update(later.locked)
            fields.bounded.update(later.bounded)
        as_wanted = not ledger.changes_pending("tools") and self.asked.tools == self.asked.wanted_tools
        tools = compare_tools(self.asked.wanted_tools, self.session.get("tools"), self.asked.policy.tools)
        return Drift(
            text=ledger.changes_pending("instructions") or not self._shows(self.asked.wanted_text),
            prompt=self._has_foreign_prompt(),
            tools=tools if as_wanted else ToolsShown.OTHERS,
            fields=fields,
        )

    def is_settled(self, ledger: EventLedger) -> bool:
        """Whether the policy is proved to be in force whole."""
        if ledger.due(Asker.POLICY):
            return False
        drift = self.unsettled(ledger)
        return not drift.serious and not drift.slight

    def can_send(self, path: str, value: Any, *, audio_started: bool) -> bool:
        """Whether the service could take a field now: one that it cannot would have the whole update refused."""
        if path == _VOICE and audio_started:
            return False
        return self._service is Dialect.GA or preview_holds(path, value)

    def parts(self, drift: Drift, *, audio_started: bool) -> list[Mapping[str, Any]]:
        """The updates that put right what drifted, each to be sent by itself: one that is refused is refused whole."""
        sessions: list[Mapping[str, Any]] = []
        if drift.text:
            sessions.append({"instructions": self.asked.wanted_text})
        if drift.prompt:
            sessions.append({"prompt": None})
        settings = {
            path: value
            for path, value in drift.fields.all.items()
            if self.can_send(path, value, audio_started=audio_started)
        }
        if settings:
            sessions.append(nested(settings))
        if drift.tools is not ToolsShown.AS_ASKED:
            sessions.append({"tools": self.asked.wanted_tools})
        return sessions

    def _compare_tools(self) -> ToolsShown:
        """How the tools shown compare with those asked for; both are mostly the same as the time before."""
        shown = self.session.get("tools")
        asked, seen, found = self._compared
        if asked is not self.asked.tools or seen != shown:
            found = compare_tools(self.asked.tools, shown, self.asked.policy.tools)
            self._compared = (self.asked.tools, shown, found)
        return found

    def _has_foreign_prompt(self) -> bool:
        """Whether a stored prompt is loaded, which brings instructions, that no rule has set."""
        return self.session.get("prompt") is not None and "prompt" not in self.asked.policy.fields

    def _shows(self, text: str) -> bool:
        shown = self.session.get("instructions")
        if not text:  # an empty policy: the service may show none at all
            return shown in (None, "")
        return bool(shown == text)


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Fields by path as a session holds them."""
    session: dict[str, Any] = {}
    for path, value in settings.items():
        *parents, leaf = path.split(".")
        place = session
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = value
    return session
