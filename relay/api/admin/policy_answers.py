"""What the policy routes answer: values as JSON, and refusals as errors of the API."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from aiohttp import web

from relay.core.policy import EffectivePolicy
from relay.core.policy_check import Severity
from relay.core.policy_diff import Change
from relay.core.policy_impact import LiveImpact, RecordedImpact
from relay.core.revision_files import Finding, NotThere, UnfitFiles, tag_of
from relay.core.stored import Revision, RevisionRow, StaleRevision, StoreError, UnfitText
from relay.errors import ApiError, ConfigError, ErrorCode
from relay.governance import InvalidPolicies, KeptInFiles, Published
from relay.policy_loader import LoaderBusy
from relay.policy_trials import DryRun

_RETRY = {"retry-after": "5"}
_MOST_SHOWN = 2_000


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turn what governance refuses into the API's errors."""
    try:
        yield
    except InvalidPolicies as error:
        raise _invalid(error.findings) from None
    except ConfigError as error:
        raise _invalid([Finding("", 0, "", str(error), Severity.ERROR)]) from None
    except StaleRevision as error:
        raise ApiError(412, ErrorCode.REVISION_STALE, f"If-Match is not of the newest revision: {error}.") from None
    except KeptInFiles:
        message = "The policies are kept in files and change there; set policy.managed to keep them in the store."
        raise ApiError(409, ErrorCode.POLICIES_IN_FILES, message) from None
    except UnfitFiles as error:
        status, code = (413, ErrorCode.REQUEST_TOO_LARGE) if error.too_large else (400, ErrorCode.INVALID_VALUE)
        raise ApiError(status, code, f"{error}.", param="files") from None
    except UnfitText as error:
        raise ApiError(400, ErrorCode.INVALID_VALUE, f"{error}.") from None
    except NotThere:
        raise not_found() from None
    except LoaderBusy:
        message = "Too many sets of policies wait to be checked; try again."
        raise ApiError(503, ErrorCode.AT_CAPACITY, message, headers=_RETRY) from None
    except StoreError:
        message = "The store did not answer; try again."
        raise ApiError(503, ErrorCode.STORE_UNAVAILABLE, message, headers=_RETRY) from None


def not_found() -> ApiError:
    """The refusal of a file or revision that is not there."""
    return ApiError(404, ErrorCode.NOT_FOUND, "There is nothing at this address.")


def expected_tag(request: web.Request) -> str:
    """The tag of the revision that a change is to. Raises ApiError 428, and 412 for what is no single strong tag.

    `*` is no tag: a change to whatever is in force is what the header is there to prevent.
    """
    given = request.headers.get("If-Match")
    if given is None:
        raise ApiError(428, ErrorCode.PRECONDITION_REQUIRED, "Send the ETag of what you read as If-Match.")
    # RFC 9110 section 13.1.1: compared strongly, so a weak one never matches.
    if len(given) <= 2 or not (given.startswith('"') and given.endswith('"')):  # noqa: PLR2004  two quotes
        raise ApiError(412, ErrorCode.REVISION_STALE, "If-Match is no ETag of a revision.")
    return given[1:-1]


def etag(revision: Revision) -> str:
    """The entity tag of a revision, quoted (RFC 9110 section 8.8.3)."""
    return f'"{tag_of(revision)}"'


def published_answer(published: Published) -> web.Response:
    """What came of a change."""
    revision = published.revision
    body = {
        "revision": revision.number,
        "hash": revision.hash,
        "etag": etag(revision),
        "warnings": [asdict(found) for found in published.warnings],
    }
    return web.json_response(body, headers={"ETag": etag(revision)})


def revision_shown(row: RevisionRow | Revision) -> dict[str, Any]:
    """One row of the list of revisions."""
    return {name: getattr(row, name) for name in ("number", "hash", "author", "at", "note")}


def problems_shown(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Problems as an editor shows them."""
    return [asdict(found) for found in findings]


def changes_shown(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """Differences in meaning."""
    return [
        {
            "policy": change.document,
            "what": change.path,
            "old": change.old[:_MOST_SHOWN],
            "new": change.new[:_MOST_SHOWN],
            "direction": change.direction,
        }
        for change in changes
    ]


def dry_run_shown(found: DryRun) -> dict[str, Any]:
    """Whom a set would change."""
    return {
        "changes": changes_shown(found.changes),
        "live": [_live_shown(impact) for impact in found.live],
        "recorded": [_recorded_shown(impact) for impact in found.recorded],
        "truncated": found.truncated,
    }


def _live_shown(impact: LiveImpact) -> dict[str, Any]:
    session = impact.session
    return {
        "session": session.session_id,
        "tenant": session.identity.tenant,
        "subject": session.identity.subject_hash,
        **_from_to(session.policy, impact.to),
        "changes": impact.changes,
        "how": impact.reach,
    }


def _from_to(has: EffectivePolicy, to: EffectivePolicy | None) -> dict[str, Any]:
    return {
        "from": has.name,
        "from_revision": has.revision,
        "to": None if to is None else to.name,
        "to_revision": None if to is None else to.revision,
    }


def _recorded_shown(impact: RecordedImpact) -> dict[str, Any]:
    principal = impact.principal
    names = {"tenant": principal.tenant, "subject": principal.subject}
    return {**names, "from": principal.policy, "to": impact.to, "certain": impact.certain}


def _invalid(findings: Sequence[Finding]) -> ApiError:
    message = "The policies cannot be put in force; `problems` says why."
    return ApiError(422, ErrorCode.POLICY_INVALID, message, extra={"problems": problems_shown(findings)})
