"""The policies over HTTP: read, checked, tried, published and taken back. Every change names what it is a change to."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from relay.api.admin import policy_schemas as schemas
from relay.api.admin.policy_answers import (
    changes_shown,
    dry_run_shown,
    etag,
    expected_tag,
    not_found,
    problems_shown,
    published_answer,
    refusals,
    revision_shown,
)
from relay.api.admin.route import Route, body_of, query_of
from relay.core.access import Administrator, Permission
from relay.core.policy_schema import POLICY_SCHEMA
from relay.core.revision_files import FILE_MAX_BYTES, require_path
from relay.core.stored import FILES_MOST_BYTES
from relay.governance import Governance
from relay.policy_trials import PolicyTrials

_PAGE = 50
_TEXT_TYPE = "text/plain"


def policy_routes(governance: Governance, trials: PolicyTrials) -> tuple[Route, ...]:
    """All routes below `/policies`."""
    read, attempt, write = _Reading(governance), _Trying(governance, trials), _Changing(governance)
    see, know, govern = Permission.READ, Permission.READ_POLICIES, Permission.GOVERN
    one = "/policies/files/{path:.+}"
    revision = f"/policies/revisions/{schemas.NUMBER}"
    return (
        Route("GET", "/policies", see, read.policies, "The set in force", answer_schema=schemas.POLICIES),
        Route("GET", one, know, read.file, "One file of the set in force", answer_type=_TEXT_TYPE),
        Route("GET", "/policies/revisions", see, read.revisions, "What was published, newest first",
              answer_schema=schemas.REVISIONS, query=schemas.PAGE_QUERY),
        Route("GET", revision, know, read.revision, "One revision whole", answer_schema=schemas.REVISION),
        Route("GET", f"{revision}/diff", know, attempt.diff, "What changed in meaning since, or up to another",
              answer_schema=schemas.CHANGES, query=schemas.TO_QUERY),
        Route("GET", "/policies/schema", see, read.schema, "The JSON Schema of a document"),
        Route("POST", "/policies/check", know, attempt.check, "What would be wrong with changed files; stores nothing",
              request_schema=schemas.CHANGES_BODY, answer_schema=schemas.PROBLEMS, body_bytes=FILES_MOST_BYTES,
              refusals=(422,)),
        Route("POST", "/policies/dry-run", know, attempt.dry_run, "Whom changed files would change; stores nothing",
              request_schema=schemas.CHANGES_BODY, answer_schema=schemas.DRY_RUN, body_bytes=FILES_MOST_BYTES,
              refusals=(422,)),
        _change("PUT", "/policies", govern, write.put_set, "Publish a whole set",
                request_schema=schemas.SET_BODY, body_bytes=FILES_MOST_BYTES),
        _change("PUT", one, govern, write.put_file, "Publish the set with one file changed",
                request_type=_TEXT_TYPE, body_bytes=FILE_MAX_BYTES, query=schemas.NOTE_QUERY),
        _change("DELETE", one, govern, write.delete_file, "Publish the set without one file",
                query=schemas.NOTE_QUERY),
        _change("POST", f"{revision}/rollback", govern, write.rollback, "Publish an earlier revision again",
                action="policy.rollback", request_schema=schemas.NOTE_BODY),
    )  # fmt: skip


def _change(*what: object, action: str = "policy.publish", **more: object) -> Route:
    """A route that publishes: what it is a change to is said in `If-Match`."""
    whole = {"action": action, "answer_schema": schemas.PUBLISHED, "request_headers": ("If-Match",),
             "refusals": (409, 412, 413, 422, 428), **more}  # fmt: skip
    return Route(*what, **whole)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class _Reading:
    governance: Governance

    async def policies(self, _request: web.Request, _administrator: Administrator) -> web.Response:
        governance = self.governance
        revision = governance.in_force
        with refusals():
            files = await governance.files()
        documents = _documents(governance)
        body = {
            "managed": revision is not None,
            "revision": None if revision is None else revision.number,
            "etag": None if revision is None else etag(revision),
            "files": [
                {"path": path, "bytes": len(text.encode()), "documents": documents.get(path, [])}
                for path, text in files.items()
            ],
            "policies": [
                {"name": name, "revision": found} for name, found in sorted(governance.policies.revisions.items())
            ],
        }
        return web.json_response(body, headers={} if revision is None else {"ETag": etag(revision)})

    async def file(self, request: web.Request, _administrator: Administrator) -> web.Response:
        revision = self.governance.in_force
        with refusals():
            text = (await self.governance.files()).get(request.match_info["path"])
        if text is None:
            raise not_found()
        return web.Response(text=text, headers={} if revision is None else {"ETag": etag(revision)})

    async def revisions(self, request: web.Request, _administrator: Administrator) -> web.Response:
        query = query_of(request)
        limit = query.get("limit", _PAGE)
        with refusals():
            rows = await self.governance.revisions(query.get("before"), limit)
        more = rows[-1].number if len(rows) == limit and rows[-1].number > 1 else None
        return web.json_response({"revisions": [revision_shown(row) for row in rows], "next": more})

    async def revision(self, request: web.Request, _administrator: Administrator) -> web.Response:
        with refusals():
            found = await self.governance.revision(_number(request))
        body = {**revision_shown(found), "etag": etag(found), "files": dict(found.files)}
        return web.json_response(body, headers={"ETag": etag(found)})

    async def schema(self, _request: web.Request, _administrator: Administrator) -> web.Response:
        return web.json_response(POLICY_SCHEMA)


@dataclass(frozen=True, slots=True)
class _Trying:
    governance: Governance
    trials: PolicyTrials

    async def diff(self, request: web.Request, _administrator: Administrator) -> web.Response:
        newest = self.governance.in_force
        with refusals():
            if newest is None:
                raise not_found()
            changes = await self.trials.diff(_number(request), query_of(request).get("to", newest.number))
        return web.json_response({"changes": changes_shown(changes)})

    async def check(self, request: web.Request, _administrator: Administrator) -> web.Response:
        with refusals():
            found = await self.trials.check(body_of(request)["files"])
        return web.json_response({"problems": problems_shown(found)})

    async def dry_run(self, request: web.Request, _administrator: Administrator) -> web.Response:
        with refusals():
            found = await self.trials.dry_run(body_of(request)["files"])
        return web.json_response(dry_run_shown(found))


@dataclass(frozen=True, slots=True)
class _Changing:
    governance: Governance

    async def put_set(self, request: web.Request, administrator: Administrator) -> web.Response:
        body = body_of(request)
        with refusals():
            self.governance.require_managed()
            tag = expected_tag(request)
            published = await self.governance.publish(body["files"], body.get("note", ""), tag, administrator)
        return published_answer(published)

    async def put_file(self, request: web.Request, administrator: Administrator) -> web.Response:
        return await self._change(request, administrator, body_of(request) or "")

    async def delete_file(self, request: web.Request, administrator: Administrator) -> web.Response:
        return await self._change(request, administrator, None)

    async def rollback(self, request: web.Request, administrator: Administrator) -> web.Response:
        note = body_of(request).get("note", "")
        with refusals():
            self.governance.require_managed()
            tag = expected_tag(request)
            published = await self.governance.rollback(_number(request), note, tag, administrator)
        return published_answer(published)

    async def _change(self, request: web.Request, administrator: Administrator, text: str | None) -> web.Response:
        path, note = request.match_info["path"], query_of(request).get("note", "")
        with refusals():
            self.governance.require_managed()
            tag = expected_tag(request)
            require_path(path)
            published = await self.governance.change({path: text}, note, tag, administrator)
        return published_answer(published)


def _documents(governance: Governance) -> dict[str, list[str]]:
    """The names of the documents in each file; not known where policies are kept in files."""
    names: dict[str, list[str]] = {}
    for document in () if governance.loaded is None else governance.loaded.documents:
        names.setdefault(document.source.file, []).append(document.name)
    return names


def _number(request: web.Request) -> int:
    return int(request.match_info["number"])
