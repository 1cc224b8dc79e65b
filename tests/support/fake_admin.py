"""A stand-in of the admin API with the console's files before it, for tests of what the console shows.

It keeps everything in memory; policies are judged by the relay's own code, and no answer leaves it that the table of
the real API would not describe.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from relay.api.pages import console_policy
from relay.core.access import Administrator, Permission, Role
from support import fake_admin_data as data
from support.admin_schemas import fitting
from support.console import Served
from support.fake_policies import BrokenPolicies, changes_between, judged

CONSOLE = Path(__file__).parents[2] / "web" / "console"
KEYS = {
    "owner-key-1": Administrator("ops@contoso.example", Role.OWNER),
    "governor-key-1": Administrator("gwen@contoso.example", Role.GOVERNOR),
    "operator-key-1": Administrator("otto@contoso.example", Role.OPERATOR),
    "viewer-key-1": Administrator("vera@contoso.example", Role.VIEWER),
    "tenant-key-1": Administrator("tina@sales.example", Role.OPERATOR, tenant="sales"),
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refusal(Exception):  # noqa: N818 - an answer
    """What a handler answers in place of what was asked."""

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code, **more}
        self.answer = (status, {"error": error})


def broken(problems: list[dict[str, Any]]) -> Refusal:
    """The answer to documents that cannot be put in force."""
    message = "The policies cannot be put in force; `problems` says why."
    return Refusal(422, "policy_invalid", message, problems=problems)


def _next(rows: list[dict[str, Any]], limit: int) -> int | None:
    return rows[-1]["number"] if len(rows) == limit and rows[-1]["number"] > 1 else None


class FakeAdmin:
    """The API and its state; tests change the state and call `tell()` to have streams see it."""

    def __init__(self) -> None:
        self.administrators = dict(KEYS)
        self.sessions = data.running()
        self.recorded = data.recorded(120)
        self.timelines = {each["id"]: data.timeline(each["started_at"]) for each in [*self.sessions, *self.recorded]}
        self.usage = data.used(30)
        self.decisions = data.decided(140)
        self.audit: list[dict[str, Any]] = []
        self.first_bad: int | None = None
        self.keys: list[dict[str, Any]] = []
        self.kill_switch: dict[str, Any] = {"everybody": False, "tenants": [], "policies": []}
        self.members = [dict(each) for each in data.MEMBERS]
        self.limits: dict[str, Any] = dict(data.LIMITS)
        self.draining = False
        self.managed = True
        self.revisions: list[dict[str, Any]] = []
        self.oidc: dict[str, str] | None = None
        self.requests: list[tuple[str, str]] = []
        self.refusals: dict[str, Refusal] = {}
        self.streams = 0
        self.url = ""
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._store({"company-base.yaml": data.COMPANY}, "ops@contoso.example", "First set")
        both = {"company-base.yaml": data.COMPANY, "contact-centre.yaml": data.CONTACT_CENTRE}
        self._store(both, "gwen@contoso.example", "The contact centre gets its own")
        self.note(KEYS["owner-key-1"], "policy.publish", "2", note="The contact centre gets its own")

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self, port: int = 0) -> None:
        """Serve on loopback."""
        app = web.Application(middlewares=[self._errors])
        app.router.add_get("/console/", self._page)
        app.router.add_get("/console/{name:.+}", self._page)
        for method, path, permission, whole, handler in self._routes():
            app.router.add_route(
                method, f"/admin/v1{path}", fitting(method, path, self._guarded(permission, whole, handler))
            )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        """Stop; streams are cut."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def served(self) -> Served:
        """Where it is, and who may come in."""
        return Served(self.url, {key.split("-")[0]: key for key in KEYS})

    def tell(self) -> None:
        """Have every stream send what is now."""
        self._changed.set()
        self._changed = asyncio.Event()

    def refuse(self, path: str, status: int, code: str, message: str) -> None:
        """Answer the next request to this path so."""
        self.refusals[path] = Refusal(status, code, message)

    def publish(self, path: str, text: str, author: str, note: str) -> None:
        """Publish one file, as somebody else would meanwhile."""
        self._store({**self.files, path: text}, author, note)

    def note(self, who: Administrator, action: str, target: str, *, accepted: bool = True, **body: Any) -> None:
        """Write a row of the audit log."""
        row = {"number": len(self.audit) + 1, "at": time.time(), "actor": who.name, "role": who.role.value,
               "action": action, "tenant": who.tenant or "", "target": target, "accepted": accepted,
               "body": body}  # fmt: skip
        self.audit.append(row | {"previous": "", "hash": hashlib.sha256(json.dumps(row).encode()).hexdigest()})

    @property
    def files(self) -> dict[str, str]:
        """The documents in force."""
        found: dict[str, str] = self.revisions[-1]["files"]
        return found

    @property
    def etag(self) -> str:
        """The tag of the set in force."""
        return f'"{self.revisions[-1]["number"]}-{self.revisions[-1]["hash"][:12]}"'

    # --- around every request ----------------------------------------------------------------------------------------

    @web.middleware
    async def _errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except (Refusal, BrokenPolicies) as refusal:
            status, body = refusal.answer if isinstance(refusal, Refusal) else broken(refusal.problems).answer
            return web.json_response(body, status=status)

    def _guarded(self, permission: Permission | None, whole: bool, handler: Callable[..., Awaitable[Any]]) -> Handler:
        async def serve(request: web.Request) -> web.StreamResponse:
            path = request.path.removeprefix("/admin/v1")
            self.requests.append((request.method, path))
            if path in self.refusals:
                raise self.refusals.pop(path)
            if permission is None:
                return web.json_response(await handler(request))
            key = request.headers.get("authorization", "").removeprefix("Bearer ")
            who = self.administrators.get(key)
            if who is None:
                raise Refusal(401, "invalid_api_key", "The credential is not accepted.")
            if not who.may(permission) or (whole and who.tenant):
                raise Refusal(403, "forbidden", "The role does not grant this.")
            made = await handler(request, who)
            return made if isinstance(made, web.StreamResponse) else web.json_response(made)

        return serve

    async def _page(self, request: web.Request) -> web.StreamResponse:
        path = CONSOLE / request.match_info.get("name", "index.html")
        if not path.is_file():
            raise web.HTTPNotFound
        policy = await console_policy(self._provider)()
        return web.FileResponse(path, headers={"content-security-policy": policy, "cache-control": "no-store"})

    async def _provider(self) -> dict[str, str] | None:
        return self.oidc

    def _routes(self) -> list[tuple[str, str, Permission | None, bool, Callable[..., Awaitable[Any]]]]:
        read, operate, own = Permission.READ, Permission.OPERATE, Permission.OWN
        texts, govern = Permission.READ_POLICIES, Permission.GOVERN
        return [
            ("GET", "/sign-in", None, False, self._sign_in), ("GET", "/me", read, False, self._me),
            ("GET", "/status", read, False, self._get_status), ("GET", "/sessions", read, False, self._get_sessions),
            ("GET", "/sessions/stream", read, False, self._stream),
            ("GET", "/sessions/recorded", read, False, self._get_recorded),
            ("GET", "/sessions/{id}", read, False, self._get_session),
            ("POST", "/sessions/{id}/end", operate, False, self._end),
            ("POST", "/tenants/{tenant}/end", operate, False, self._end_tenant),
            ("GET", "/kill-switch", read, True, self._get_kill), ("PUT", "/kill-switch", operate, True, self._put_kill),
            ("POST", "/drain", operate, True, self._drain), ("GET", "/usage", read, False, self._get_usage),
            ("GET", "/limits", read, False, self._get_limits), ("GET", "/decisions", read, False, self._get_decisions),
            ("GET", "/audit", read, False, self._get_audit), ("GET", "/audit/verify", read, True, self._verify),
            ("GET", "/upstreams", read, True, self._get_upstreams), ("GET", "/keys", own, False, self._get_keys),
            ("POST", "/keys", own, False, self._make_key), ("POST", "/keys/{id}/rotate", own, False, self._rotate),
            ("DELETE", "/keys/{id}", own, False, self._revoke), ("GET", "/policies", read, True, self._get_policies),
            ("PUT", "/policies", govern, True, self._put_set),
            ("GET", "/policies/files/{path:.+}", texts, True, self._get_file),
            ("PUT", "/policies/files/{path:.+}", govern, True, self._put_file),
            ("DELETE", "/policies/files/{path:.+}", govern, True, self._put_file),
            ("POST", "/policies/check", texts, True, self._check),
            ("POST", "/policies/dry-run", texts, True, self._dry_run),
            ("GET", "/policies/revisions", read, True, self._get_revisions),
            ("GET", "/policies/revisions/{n}", texts, True, self._get_revision),
            ("GET", "/policies/revisions/{n}/diff", texts, True, self._get_diff),
            ("POST", "/policies/revisions/{n}/rollback", govern, True, self._rollback),
        ]  # fmt: skip

    # --- state and sessions ------------------------------------------------------------------------------------------

    async def _sign_in(self, _request: web.Request) -> Any:
        return {"oidc": self.oidc}

    async def _me(self, _request: web.Request, who: Administrator) -> Any:
        permissions = [each.value for each in Permission if who.may(each)]
        return {"name": who.name, "role": who.role.value, "tenant": who.tenant, "permissions": permissions}

    async def _get_status(self, _request: web.Request, who: Administrator) -> Any:
        return self.status(who)

    def status(self, who: Administrator) -> dict[str, Any]:
        """The state of the relay as `who` sees it."""
        whole, sessions = who.tenant is None, self._seen(self.sessions, who)
        capacity = {"sessions": len(self.sessions) / 20, "cpu": 0.38, "files": 0.07, "ports": 0.12}
        return {
            "version": "0.1.0", "node": "relay-7d9f", "started_at": time.time() - 93_600, "ready": not self.draining,
            "reasons": {"draining": "no new sessions"} if self.draining else {}, "draining": self.draining,
            "sessions": len(sessions), "capacity": capacity if whole else {},
            "policies": {"managed": self.managed, "revision": self._number(), "hash": self.revisions[-1]["hash"],
                         "names": {}},
            "kill_switch": self.kill_switch, "store": {"kind": "sqlite", "ok": True},
            "workers": [{"worker": n, "state": "ready", "sessions": 2, "restarts": 0} for n in (0, 1) if whole],
        }  # fmt: skip

    def _number(self) -> int | None:
        return self.revisions[-1]["number"] if self.managed else None

    def _seen(self, rows: list[dict[str, Any]], who: Administrator) -> list[dict[str, Any]]:
        return [row for row in rows if who.sees(row["tenant"])]

    async def _get_sessions(self, _request: web.Request, who: Administrator) -> Any:
        return {"sessions": self._seen(self.sessions, who), "recorded": [], "more": 0}

    async def _stream(self, request: web.Request, who: Administrator) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream", "cache-control": "no-store"})
        await response.prepare(request)
        self.streams += 1
        try:
            while True:
                changed = self._changed
                sessions = await self._get_sessions(request, who)
                for event, body in (("status", self.status(who)), ("sessions", sessions)):
                    await response.write(f"event: {event}\ndata: {json.dumps(body)}\n\n".encode())
                await changed.wait()
        except ConnectionError:
            return response
        finally:
            self.streams -= 1

    async def _get_recorded(self, request: web.Request, who: Administrator) -> Any:
        wanted = {name: request.query[name] for name in ("tenant", "subject", "reason") if name in request.query}
        rows = [
            row for row in self._seen(self.recorded, who) if all(row[name] == value for name, value in wanted.items())
        ]
        start, limit = int(request.query.get("before", 0)), int(request.query.get("limit", 100))
        following = start + limit
        return {"sessions": rows[start:following], "next": str(following) if following < len(rows) else None}

    async def _get_session(self, request: web.Request, who: Administrator) -> Any:
        for row in self._seen([*self.sessions, *self.recorded], who):
            if row["id"] == request.match_info["id"]:
                return {**row, "timeline": self.timelines.get(row["id"], []), "timeline_dropped": 0}
        raise Refusal(404, "not_found", "There is nothing at this address.")

    async def _end(self, request: web.Request, who: Administrator) -> Any:
        gone = await self._get_session(request, who)
        self.sessions = [row for row in self.sessions if row["id"] != gone["id"]]
        self.note(who, "session.end", gone["id"], **await request.json())
        self.tell()
        return web.json_response({"id": gone["id"], "status": "ending"}, status=202)

    async def _end_tenant(self, request: web.Request, who: Administrator) -> Any:
        tenant = request.match_info["tenant"]
        if not who.sees(tenant):
            raise Refusal(404, "not_found", "There is nothing at this address.")
        before = len(self.sessions)
        self.sessions = [row for row in self.sessions if row["tenant"] != tenant]
        self.note(who, "tenant.end", tenant, **await request.json())
        self.tell()
        return web.json_response({"ended": before - len(self.sessions)}, status=202)

    async def _get_kill(self, _request: web.Request, _who: Administrator) -> Any:
        return self.kill_switch

    async def _put_kill(self, request: web.Request, who: Administrator) -> Any:
        body, before = await request.json(), self.kill_switch
        note = body.pop("note", "")
        self.kill_switch = body
        if body["everybody"]:
            self.sessions = []
        self.note(who, "kill_switch", "", note=note, **{"from": before, "to": body})
        self.tell()
        return body

    async def _drain(self, _request: web.Request, who: Administrator) -> Any:
        self.draining = True
        self.note(who, "drain", "")
        self.tell()
        return web.json_response({"status": "draining", "sessions": len(self.sessions)}, status=202)

    # --- records -----------------------------------------------------------------------------------------------------

    async def _get_usage(self, request: web.Request, who: Administrator) -> Any:
        query = request.query
        rows = [row for row in self._seen(self.usage, who) if query.get("tenant", row["tenant"]) == row["tenant"]]
        rows = [row for row in rows if query.get("since", "") <= row["day"] <= query.get("until", "9")]
        return {"rows": data.totals(rows, query.get("by", "day"))}

    async def _get_limits(self, _request: web.Request, who: Administrator) -> Any:
        today = [row for row in self._seen(self.usage, who) if row["day"] == self.usage[-1]["day"]]
        return {"limits": self.limits, "today": {"day": self.usage[-1]["day"], "tenants": data.totals(today, "tenant"),
                                                 "subjects": data.totals(today, "subject")}}  # fmt: skip

    async def _get_decisions(self, request: web.Request, who: Administrator) -> Any:
        rows, following = self._page_of(self._seen(self.decisions, who), request)
        return {"decisions": rows, "next": following}

    async def _get_audit(self, request: web.Request, who: Administrator) -> Any:
        rows = [row for row in reversed(self.audit) if who.tenant in {None, row["tenant"]}]
        rows, following = self._page_of(rows, request)
        return {"audit": rows, "next": following}

    def _page_of(self, rows: list[dict[str, Any]], request: web.Request) -> tuple[list[dict[str, Any]], int | None]:
        wanted = dict(request.query)
        limit, before = int(wanted.pop("limit", 100)), int(wanted.pop("before", 10**9))
        period = float(wanted.pop("since", 0)), float(wanted.pop("until", 10**11))
        found = [row for row in rows if row["number"] < before and period[0] <= row["at"] <= period[1]
                 and all(str(row[name]).lower() == value for name, value in wanted.items())]  # fmt: skip
        return found[:limit], _next(found[:limit], limit)

    async def _verify(self, _request: web.Request, _who: Administrator) -> Any:
        return {"ok": self.first_bad is None, "rows": len(self.audit), "first_bad": self.first_bad}

    async def _get_upstreams(self, _request: web.Request, _who: Administrator) -> Any:
        return {"members": self.members}

    # --- keys --------------------------------------------------------------------------------------------------------

    async def _get_keys(self, request: web.Request, _who: Administrator) -> Any:
        keys = [row for row in self.keys if row["kind"] == request.query.get("kind", row["kind"])]
        return {"keys": keys, "more": False}

    async def _make_key(self, request: web.Request, who: Administrator) -> Any:
        body = await request.json()
        if not body.get("name"):
            raise Refusal(400, "invalid_value", "name is too short.")
        return self._new_key(who, body)

    def _new_key(self, who: Administrator, wanted: dict[str, Any], action: str = "key.create") -> web.Response:
        row = {"id": f"key_{secrets.token_hex(6)}", "kind": wanted["kind"], "name": wanted["name"],
               "tenant": wanted.get("tenant"), "role": wanted.get("role"), "created_at": time.time(),
               "created_by": who.name, "expires_at": wanted.get("expires_at"), "revoked_at": None,
               "used_at": None}  # fmt: skip
        self.keys.insert(0, row)
        self.note(who, action, row["id"], name=row["name"])
        return web.json_response({**row, "key": f"rk_{secrets.token_urlsafe(32)}"}, status=201)

    def _key(self, request: web.Request) -> dict[str, Any]:
        for row in self.keys:
            if row["id"] == request.match_info["id"]:
                return row
        raise Refusal(404, "not_found", "There is nothing at this address.")

    async def _rotate(self, request: web.Request, who: Administrator) -> Any:
        row = self._key(request)
        row["expires_at"] = time.time() + (await request.json())["overlap_seconds"]
        return self._new_key(who, row | {"expires_at": None}, "key.rotate")

    async def _revoke(self, request: web.Request, who: Administrator) -> Any:
        row = self._key(request)
        row["revoked_at"] = time.time()
        self.note(who, "key.revoke", row["id"], name=row["name"])
        return row

    # --- policies ----------------------------------------------------------------------------------------------------

    def _store(self, files: dict[str, str], author: str, note: str) -> dict[str, Any]:
        digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
        row = {"number": len(self.revisions) + 1, "hash": digest, "author": author, "at": time.time(), "note": note,
               "files": files}  # fmt: skip
        self.revisions.append(row)
        return row

    async def _get_policies(self, _request: web.Request, _who: Administrator) -> Any:
        documents, _ = judged(self.files)
        names = {
            path: [each.name for each in documents if each.source.file.endswith(f"/{path}")] for path in self.files
        }
        body = {
            "managed": self.managed, "revision": self._number(), "etag": self.etag,
            "files": [{"path": path, "bytes": len(text), "documents": names[path]}
                      for path, text in self.files.items()],
            "policies": [{"name": each.name, "revision": self.revisions[-1]["hash"]} for each in documents],
        }  # fmt: skip
        return web.json_response(body, headers={"etag": self.etag})

    async def _get_file(self, request: web.Request, _who: Administrator) -> Any:
        text = self.files.get(request.match_info["path"])
        if text is None:
            raise Refusal(404, "not_found", "There is nothing at this address.")
        return web.Response(text=text, headers={"etag": self.etag})

    async def _put_file(self, request: web.Request, who: Administrator) -> Any:
        files, path = dict(self.files), request.match_info["path"]
        if request.method == "DELETE":
            files.pop(path, None)
        else:
            files[path] = await request.text()
        return self._published(request, who, files, request.query.get("note", ""))

    async def _put_set(self, request: web.Request, who: Administrator) -> Any:
        body = await request.json()
        return self._published(request, who, body["files"], body["note"])

    def _published(
        self, request: web.Request, who: Administrator, files: dict[str, str], note: str, action: str = "policy.publish"
    ) -> Any:
        if not self.managed:
            raise Refusal(409, "policies_in_files", "The policies are kept in files.")
        if "if-match" not in request.headers:
            raise Refusal(428, "precondition_required", "If-Match is needed.")
        if request.headers["if-match"] != self.etag:
            raise Refusal(412, "revision_stale", "If-Match is not of the newest revision.")
        problems = judged(files)[1]
        if any(each["severity"] == "error" for each in problems):
            raise broken(problems)
        row = self._store(files, who.name, note)
        self.note(who, action, str(row["number"]), note=note)
        self.tell()
        return {"revision": row["number"], "hash": row["hash"], "etag": self.etag, "warnings": problems}

    async def _laid_over(self, request: web.Request) -> dict[str, str]:
        changed = (await request.json())["files"]
        return {path: text for path, text in {**self.files, **changed}.items() if text is not None}

    async def _check(self, request: web.Request, _who: Administrator) -> Any:
        return {"problems": judged(await self._laid_over(request))[1]}

    async def _dry_run(self, request: web.Request, _who: Administrator) -> Any:
        files = await self._laid_over(request)
        changes = changes_between(self.files, files)
        touched = {change["policy"] for change in changes}
        at_once = {path.removesuffix(".yaml") for path, text in files.items() if "apply: live" in text}
        live = [
            {"session": row["id"], "tenant": row["tenant"], "subject": row["subject"], "from": row["policy"],
             "to": row["policy"], "from_revision": row["revision"], "to_revision": row["revision"],
             "changes": len(changes), "how": "now" if row["policy"] in at_once else "next session"}
            for row in self.sessions if row["policy"] in touched
        ]  # fmt: skip
        return {"changes": changes, "live": live, "recorded": [], "truncated": False}

    async def _get_revisions(self, request: web.Request, _who: Administrator) -> Any:
        before, limit = int(request.query.get("before", 10**9)), int(request.query.get("limit", 50))
        rows = [row for row in reversed(self.revisions) if row["number"] < before]
        shown = [{name: value for name, value in row.items() if name != "files"} for row in rows[:limit]]
        return {"revisions": shown, "next": _next(shown, limit)}

    def _revision(self, number: str) -> dict[str, Any]:
        if not number.isdigit() or not 0 < int(number) <= len(self.revisions):
            raise Refusal(404, "not_found", "There is nothing at this address.")
        return self.revisions[int(number) - 1]

    async def _get_revision(self, request: web.Request, _who: Administrator) -> Any:
        row = self._revision(request.match_info["n"])
        return row | {"etag": f'"{row["number"]}-{row["hash"][:12]}"'}

    async def _get_diff(self, request: web.Request, _who: Administrator) -> Any:
        old, new = self._revision(request.match_info["n"]), self._revision(request.query["to"])
        return {"changes": changes_between(old["files"], new["files"])}

    async def _rollback(self, request: web.Request, who: Administrator) -> Any:
        files = self._revision(request.match_info["n"])["files"]
        return self._published(request, who, files, (await request.json())["note"], "policy.rollback")
