"""The kill switch: a short text by which an administrator stops sessions, whatever else is wrong with the policies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KillSwitch:
    """Whom it stops: `everybody`, or these tenants, or the sessions of these policies."""

    everybody: bool = False
    tenants: frozenset[str] = frozenset()
    policies: frozenset[str] = frozenset()

    @property
    def active(self) -> bool:
        """Whether it stops anybody."""
        return self.everybody or bool(self.tenants or self.policies)

    def stops(self, tenant: str, policy: str | None = None) -> bool:
        """Whether it stops a session; `policy` None: it is not known yet."""
        return self.everybody or tenant in self.tenants or policy in self.policies

    def joined(self, other: KillSwitch) -> KillSwitch:
        """What stops whoever one of the two stops."""
        everybody = self.everybody or other.everybody
        return KillSwitch(everybody, self.tenants | other.tenants, self.policies | other.policies)


def parse_kill_switch(text: str) -> KillSwitch:
    """Read the lines `all`, `tenant NAME`, `policy NAME`; empty lines and what follows `#` say nothing.

    No line at all means everybody, and so does one that cannot be understood: in doubt it stops.
    """
    tenants, policies, everybody, said = set(), set(), False, False
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        said = True
        match words:
            case ["tenant", name]:
                tenants.add(name)
            case ["policy", name]:
                policies.add(name)
            case _:
                everybody = True
    return KillSwitch(everybody or not said, frozenset(tenants), frozenset(policies))
