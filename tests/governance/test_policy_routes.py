"""The policies over HTTP: what each route answers, and what it refuses with which words."""

from __future__ import annotations

import time

import pytest
from support.admin import GOVERNOR, admin_api
from support.governing import ALICE, DEFAULTS, Heard, LoaderHere, node
from support.policies import document, put

from relay.api.admin.policies import policy_routes
from relay.core.policy_impact import GovernedSession
from relay.core.policy_resolve import Identity
from relay.core.stored import SessionRow, StoreError
from relay.governance import Governance, Shelf
from relay.policies import Policies, documents_at
from relay.policy_loader import LoaderBusy
from relay.policy_trials import PolicyTrials

SALES = document("sales", text="sell", match={"tenants": ["sales"]})


@pytest.fixture
async def only(tmp_path):
    seed = put(tmp_path / "policies", base=document(text="one"), sales=SALES)
    async with node(f"sqlite:///{tmp_path}/relay.db", seed) as made:
        yield made


@pytest.fixture
async def admin(only):
    async with admin_api(policy_routes(only.governance, only.trials)) as made:
        yield made


async def test_reading(only, admin):
    listed = await admin.ask("GET", "/policies")
    body = listed.json
    assert (body["managed"], body["revision"], body["etag"]) == (True, 1, f'"{only.tag}"')
    assert listed.headers["ETag"] == body["etag"]
    assert [(file["path"], file["documents"]) for file in body["files"]] == [
        ("base.yaml", ["base"]), ("sales.yaml", ["sales"]),
    ]  # fmt: skip
    assert {each["name"]: each["revision"] for each in body["policies"]} == only.policies.revisions
    one = await admin.ask("GET", "/policies/files/base.yaml")
    assert (one.text, one.headers["ETag"]) == (document(text="one"), body["etag"])
    for path in ("/policies/files/gone.yaml", "/policies/files/..%2fbase.yaml", "/policies/revisions/9",
                 "/policies/revisions/1/diff?to=9"):  # fmt: skip
        assert ((missing := await admin.ask("GET", path)).status, missing.code) == (404, "not_found")
    assert (await admin.ask("GET", "/policies/schema")).json["title"]


async def test_a_change_is_to_what_was_read(only, admin):
    first = (await admin.ask("GET", "/policies")).json["etag"]
    text = document(text="two")
    blind = await admin.ask("PUT", "/policies/files/base.yaml", text)
    assert (blind.status, blind.code) == (428, "precondition_required")
    done = await admin.ask("PUT", "/policies/files/base.yaml", text, tag=first, note="better")
    assert (done.status, done.json["revision"], done.headers["ETag"]) == (200, 2, done.json["etag"])
    assert (await admin.ask("GET", "/policies/files/base.yaml")).text == text
    for tag in (first, "*", f"W/{done.json['etag']}", done.json["etag"].strip('"'), '"', '""'):
        stale = await admin.ask("PUT", "/policies/files/base.yaml", document(text="lost"), tag=tag)
        assert (stale.status, stale.code) == (412, "revision_stale"), tag
    gone = await admin.ask("DELETE", "/policies/files/sales.yaml", tag=done.json["etag"])
    assert gone.json["revision"] == 3
    again = await admin.ask("DELETE", "/policies/files/sales.yaml", tag=gone.json["etag"])
    assert (again.status, only.number) == (404, 3)
    whole = {"files": {"base.yaml": document(text="four")}, "note": "all of it"}
    assert (await admin.ask("PUT", "/policies", whole, tag=gone.json["etag"])).json["revision"] == 4
    page = (await admin.ask("GET", "/policies/revisions", limit="2")).json
    assert [(row["number"], row["author"], row["note"]) for row in page["revisions"]] == [
        (4, "gabi", "all of it"), (3, "gabi", ""),
    ]  # fmt: skip
    rest = (await admin.ask("GET", "/policies/revisions", before=str(page["next"]))).json
    assert ([row["number"] for row in rest["revisions"]], rest["next"]) == ([2, 1], None)
    (old,) = (await admin.ask("GET", "/policies/revisions/2/diff", to="3")).json["changes"]
    assert (old["policy"], old["new"], old["direction"]) == ("sales", "nothing", "changed")
    back = await admin.ask("POST", "/policies/revisions/2/rollback", {"note": "as it was"}, tag=f'"{only.tag}"')
    assert (back.json["revision"], only.text()) == (5, "two")
    second = (await admin.ask("GET", "/policies/revisions/2")).json
    assert second["files"] == (await admin.ask("GET", "/policies/revisions/5")).json["files"]


async def test_a_broken_document_is_refused_with_its_field(only, admin):
    broken = document(instructionz={})
    refused = await admin.ask("PUT", "/policies/files/base.yaml", broken, tag=f'"{only.tag}"')
    assert (refused.status, refused.code) == (422, "policy_invalid")
    (problem,) = refused.json["problems"]
    assert (problem["file"], problem["path"], problem["severity"]) == ("base.yaml", "spec.instructionz", "error")
    assert (problem["line"], "did you mean instructions" in problem["message"]) == (14, True)
    checked = await admin.ask("POST", "/policies/check", {"files": {"base.yaml": broken}})
    assert (checked.status, checked.json["problems"]) == (200, [problem])
    assert (only.number, only.text()) == (1, "one")


async def test_warnings_come_with_what_was_published(only, admin):
    done = await admin.ask("PUT", "/policies/files/base.yaml", document(mode="audit"), tag=f'"{only.tag}"')
    assert "spec.mode" in [found["path"] for found in done.json["warnings"]]


async def test_hostile_paths_and_sizes(only, admin):
    tag = f'"{only.tag}"'
    for path in ("%2e%2e/a.yaml", ".a.yaml", "a%5cb.yaml", "a%00.yaml", "a.sh", "nul.md"):
        refused = await admin.ask("PUT", f"/policies/files/{path}", "x", tag=tag)
        assert refused.status in {400, 404}, path
    for files in ({"../a.yaml": ""}, {"/a.yaml": ""}, {"a.md": "", "A.md": ""}):
        refused = await admin.ask("PUT", "/policies", {"files": files}, tag=tag)
        assert (refused.status, refused.code) == (400, "invalid_value")
    for route, method in (("/policies", "PUT"), ("/policies/check", "POST"), ("/policies/dry-run", "POST")):
        refused = await admin.ask(method, route, {"files": {"a.md": "x" * 600_000}}, tag=tag)
        assert (refused.status, refused.code) == (413, "request_too_large")
    assert only.number == 1


async def test_a_dry_run_tells_whom_it_reaches_and_stores_nothing(only, admin):
    for name, tenant, policy, age in (
        ("a", "sales", "sales", 1),
        ("b", "default", "other", 2),
        ("c", "sales", "x", 40),
    ):
        at = time.time() - age * 86_400
        await only.store.sessions.add(SessionRow(f"rs_{name}", tenant, name, policy, "client_left", at, at))
    alice, bob = only.policies.admit(ALICE, None), only.policies.admit(Identity("sales", "bob"), None)
    sessions = [
        GovernedSession("rs_1", ALICE, None, alice),
        GovernedSession("rs_2", Identity("sales", "bob"), None, bob),
    ]
    only.trials.watch(lambda: sessions)
    limits = {"idleSeconds": 60}
    tried = (await admin.ask("POST", "/policies/dry-run", {"files": {
        "base.yaml": document(text="two", apply="live", limits=limits), "sales.yaml": None,
    }})).json  # fmt: skip
    assert {(each["policy"], each["what"], each["direction"]) for each in tried["changes"]} == {
        ("base", "instructions.text", "changed"), ("base", "limits.idleSeconds", "tighter"),
        ("base", "apply", "tighter"), ("sales", "", "changed"),
    }  # fmt: skip
    assert "two" not in [each["new"] for each in tried["changes"]]
    assert [(each["session"], each["from"], each["to"], each["changes"], each["how"]) for each in tried["live"]] == [
        ("rs_1", "base", "base", 3, "now"), ("rs_2", "sales", "base", 3, "now"),
    ]  # fmt: skip
    assert [(each["subject"], each["from"], each["to"], each["certain"]) for each in tried["recorded"]] == [
        ("a", "sales", "base", True), ("b", "other", "base", False),
    ]  # fmt: skip
    changes = {"base.yaml": document(text="one", limits=limits), "sales.yaml": SALES}
    tried = (await admin.ask("POST", "/policies/dry-run", {"files": changes})).json
    assert [(each["session"], each["how"]) for each in tried["live"]] == [("rs_1", "limits now")]
    tried = (await admin.ask("POST", "/policies/dry-run", {"files": {"base.yaml": None}})).json
    assert [(each["session"], each["to"], each["how"]) for each in tried["live"]] == [("rs_1", None, "next session")]
    assert (await admin.ask("POST", "/policies/dry-run", {"files": {"base.yaml": "["}})).status == 422
    assert only.number == 1


async def test_what_is_not_there_or_too_busy_is_a_503(only, admin, monkeypatch):
    async def away(*_: object) -> None:
        raise StoreError("OperationalError")

    async def busy(*_: object) -> None:
        raise LoaderBusy

    monkeypatch.setattr(only.trials._loader, "load", busy)
    refused = await admin.ask("POST", "/policies/check", {"files": {}})
    assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "at_capacity", "5")
    monkeypatch.setattr(only.store.revisions, "list", away)
    for method, path, sent in (("GET", "/policies/revisions", None), ("PUT", "/policies/files/base.yaml", "x")):
        refused = await admin.ask(method, path, sent, tag=f'"{only.tag}"')
        assert (refused.status, refused.code) == (503, "store_unavailable")


async def test_policies_in_files_are_read_and_tried_and_not_changed(tmp_path):
    directory = put(tmp_path, base=document(text="one"))
    policies = Policies(documents_at(str(directory), DEFAULTS), str(directory), Heard())
    governance = Governance(
        Shelf(documents=str(directory)), policies, DEFAULTS, Heard(), Heard().warn, LoaderHere(DEFAULTS)
    )
    trials = PolicyTrials(governance, DEFAULTS, None)
    trials._loader = LoaderHere(DEFAULTS)
    async with admin_api(policy_routes(governance, trials), GOVERNOR) as admin:
        body = (await admin.ask("GET", "/policies")).json
        assert (body["managed"], body["revision"], body["etag"]) == (False, None, None)
        assert (await admin.ask("GET", "/policies/files/base.yaml")).text == document(text="one")
        assert (await admin.ask("GET", "/policies/revisions")).json == {"revisions": [], "next": None}
        (change,) = (await admin.ask("POST", "/policies/dry-run", {"files": {"base.yaml": document(text="2")}})).json[
            "changes"
        ]
        assert change["what"] == "instructions.text"
        for method, path, sent in (
            ("PUT", "/policies/files/base.yaml", "x"),
            ("DELETE", "/policies/files/base.yaml", ""),
            ("PUT", "/policies", {"files": {}}),
            ("POST", "/policies/revisions/1/rollback", {}),
        ):
            refused = await admin.ask(method, path, sent)
            assert (refused.status, refused.code) == (409, "policies_in_files")
