"""Who asks, how the relay is, how to sign in; and the drain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relay.api.admin.answers import answer, note
from relay.api.admin.route import Route, body_of
from relay.api.admin.schemas import NOTE, NUMBER, TEXT, TRUTH, UNIX, WHOLE, by_name, listing, maybe, obj, one_of
from relay.core.access import Permission, Role

if TYPE_CHECKING:
    from aiohttp import web

    from relay.api.admin.ports import Ports
    from relay.core.access import Administrator

ME = obj({"name": TEXT, "role": one_of(Role), "tenant": maybe(TEXT), "permissions": listing(one_of(Permission))})
KILL_SWITCH = obj({"everybody": TRUTH, "tenants": listing(TEXT), "policies": listing(TEXT)})
STATUS = obj(
    {
        "version": TEXT,
        "node": TEXT,
        "started_at": UNIX,
        "ready": TRUTH,
        "reasons": by_name(TEXT),
        "draining": TRUTH,
        "sessions": WHOLE,
        "capacity": by_name(NUMBER),
        "policies": obj({"managed": TRUTH, "revision": maybe(WHOLE), "hash": TEXT, "names": by_name(TEXT)}),
        "kill_switch": KILL_SWITCH,
        "store": obj({"kind": TEXT, "ok": TRUTH}),
        "workers": listing({"type": "object"}),
    }
)
_OIDC = obj({"issuer": TEXT, "client_id": TEXT, "authorization_endpoint": TEXT, "token_endpoint": TEXT}, closed=False)
_MEMBER = obj(
    {
        "name": TEXT,
        "region": maybe(TEXT),
        "weight": NUMBER,
        "state": one_of(("ready", "cooling", "down")),
        "until": maybe(UNIX),
        "last_error": maybe(TEXT),
        "sessions": WHOLE,
    },
    closed=False,
)


@dataclass(frozen=True, slots=True)
class Overview:
    """The handlers."""

    ports: Ports

    async def me(self, _request: web.Request, administrator: Administrator) -> web.Response:
        """Who the credential is of, and what it may do."""
        return answer(
            {
                "name": administrator.name,
                "role": administrator.role.value,
                "tenant": administrator.tenant,
                "permissions": [each.value for each in Permission if administrator.may(each)],
            }
        )

    async def sign_in(self, _request: web.Request, _administrator: Administrator) -> web.Response:
        """What a console needs to send somebody to the identity provider."""
        return answer({"oidc": await self.ports.sign_in()})

    async def show_status(self, _request: web.Request, administrator: Administrator) -> web.Response:
        """How the relay is."""
        return answer(self.status(administrator))

    def status(self, administrator: Administrator) -> dict[str, Any]:
        """How the relay is; who is confined to a tenant learns nothing of the others."""
        relay, switch = self.ports.relay, self.ports.relay.kill_switch()
        reasons, policies, store = relay.readiness(), relay.policies(), relay.store()
        whole = administrator.tenant is None
        return {
            "version": relay.version,
            "node": relay.node,
            "started_at": round(relay.started_at, 3),
            "ready": not reasons,
            "reasons": reasons,
            "draining": relay.draining,
            "sessions": self.ports.live.views(administrator.tenant, most=0)[1],
            "capacity": {name: round(ratio, 4) for name, ratio in relay.capacity().items()} if whole else {},
            "policies": {
                "managed": policies.managed,
                "revision": policies.revision,
                "hash": policies.hash,
                "names": dict(policies.names) if whole else {},
            },
            "kill_switch": {
                "everybody": switch.everybody,
                "tenants": sorted(name for name in switch.tenants if administrator.sees(name)),
                "policies": sorted(switch.policies) if whole else [],
            },
            "store": {"kind": store.kind, "ok": store.ok},
            "workers": relay.workers() if whole else [],
        }

    async def upstreams(self, _request: web.Request, _administrator: Administrator) -> web.Response:
        """The members of the upstream pool and their health."""
        return answer({"members": self.ports.relay.members()})

    async def drain(self, request: web.Request, administrator: Administrator) -> web.Response:
        """Begin to drain; it cannot be taken back."""
        await self.ports.audit.append(note(administrator, "drain", **body_of(request)))
        return answer({"status": "draining", "sessions": self.ports.relay.drain()}, status=202)


def overview_routes(ports: Ports) -> list[Route]:
    """The routes of this module."""
    handlers = Overview(ports)
    return [
        Route("GET", "/sign-in", None, handlers.sign_in, "How to sign in; null where only keys are taken",
              answer_schema=obj({"oidc": maybe(_OIDC)})),
        Route("GET", "/me", Permission.READ, handlers.me, "Who the credential is of, and what it may do",
              answer_schema=ME, tenant_bound=True),
        Route("GET", "/status", Permission.READ, handlers.show_status, "How the relay is",
              answer_schema=STATUS, tenant_bound=True),
        Route("GET", "/upstreams", Permission.READ, handlers.upstreams, "The upstream pool and its health",
              answer_schema=obj({"members": listing(_MEMBER)})),
        Route("POST", "/drain", Permission.OPERATE, handlers.drain, "Let nobody in any more and let sessions end",
              request_schema=obj({}, {"note": NOTE}), answer_schema=obj({"status": TEXT, "sessions": WHOLE}),
              action="drain", status=202),
    ]  # fmt: skip
