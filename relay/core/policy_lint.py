"""What is wrong with a set of documents beyond their form: errors keep them from being used, warnings do not."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from relay.core.events import EventError
from relay.core.field_checks import Unfit
from relay.core.policy_check import Problem, dotted, nearest
from relay.core.policy_document import ANY, Match, PolicyDocument
from relay.core.policy_fields import normal, outer_of, permits
from relay.core.policy_inherit import conflicts, loosened, said_by
from relay.core.policy_members import contradiction
from relay.core.policy_paths import INNER_FIELDS, NUMBER_RANGES
from relay.core.policy_resolve import Unresolved, merged
from relay.core.policy_schema import INSTRUCTIONS_MAX_BYTES
from relay.core.policy_variables import claims_named, misread_braces
from relay.core.session_fields import SESSION_FIELDS

_INSTRUCTIONS = ("spec", "instructions")
_FIELDS = ("spec", "session", "fields")
_EASILY_RECITED = 6


def lint(
    documents: Sequence[PolicyDocument],
    deployments: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
) -> list[Problem]:
    """All problems of a set of documents.

    `deployments`: the ones that exist at the service, `regions`: those of the pool's members, where that is known.
    """
    problems = [*_same_names(documents), *_several_defaults(documents), *_ties(documents), *_ties_of_lists(documents)]
    for document in documents:
        problems += _of_match(document)
        problems += _of_fields(document)
        problems += _of_tools(document)
        problems += _of_tests(document)
        problems += _of_chain(documents, document)
        if deployments is not None:
            problems += _of_deployments(document, deployments)
        if regions is not None:
            problems += _of_regions(document, regions)
    problems += [*_unreachable(documents), *_no_default(documents)]
    return problems


# --- the set ---------------------------------------------------------------------------------------------------------


def _same_names(documents: Sequence[PolicyDocument]) -> Iterator[Problem]:
    first: dict[str, PolicyDocument] = {}
    for document in documents:
        earlier = first.setdefault(document.name, document)
        if earlier is not document:
            where = f"{earlier.source.file}:{earlier.source.line(())}" if earlier.source.file else "before"
            yield document.error(("metadata", "name"), f"{document.name} is taken: {where}")


def _several_defaults(documents: Sequence[PolicyDocument]) -> Iterator[Problem]:
    defaults = [document for document in documents if document.match is not None and document.match.default]
    for document in defaults[1:]:
        yield document.error(("spec", "match", "default"), f"{defaults[0].name} is the default already")


def _no_default(documents: Sequence[PolicyDocument]) -> Iterator[Problem]:
    matching = [document for document in documents if document.match is not None]
    if any(document.match and (document.match.default or _everybody(document.match)) for document in matching):
        return
    if documents:
        yield documents[0].warning((), "no document is the default: sessions that none matches are refused (403)")


def _ties(documents: Sequence[PolicyDocument]) -> Iterator[Problem]:
    matching = [document for document in documents if document.match is not None and not document.match.default]
    for one, other in itertools.combinations(matching, 2):
        a, b = one.match, other.match
        if a is not None and b is not None and a.priority == b.priority and _overlap(a, b):
            words = f"{one.name} has the same priority {b.priority} and can match the same sessions"
            yield other.error(("spec", "match", "priority"), words)


def _ties_of_lists(documents: Sequence[PolicyDocument]) -> Iterator[Problem]:
    """Told apart by values of one claim alone: an identity that has a list with both is refused."""
    matching = [document for document in documents if document.match is not None and not document.match.default]
    for one, other in itertools.combinations(matching, 2):
        a, b = one.match, other.match
        if a is None or b is None or a.priority != b.priority or _overlap(a, b):
            continue
        if _overlap(replace(a, claims={}), replace(b, claims={})):
            words = f"an identity whose claim is a list can match {one.name} too, at the same priority: it is refused"
            yield other.warning(("spec", "match", "priority"), words)


def _overlap(one: Match, other: Match) -> bool:
    """Whether one session could match both; a claim of one value each, as most are."""
    pairs = [(one.tenants, other.tenants), (one.origins, other.origins), (one.deployments, other.deployments)]
    pairs += [(one.claims[name], other.claims[name]) for name in one.claims.keys() & other.claims.keys()]
    return all(a is None or b is None or ANY in a or ANY in b or set(a) & set(b) for a, b in pairs)


def _covers(wide: Match, narrow: Match) -> bool:
    """Whether `wide` matches whatever `narrow` matches."""

    def covers(a: Sequence[str] | None, b: Sequence[str] | None) -> bool:
        return a is None or (b is not None and (ANY in a or (ANY not in b and set(b) <= set(a))))

    keys = ("tenants", "origins", "deployments")
    return all(covers(getattr(wide, key), getattr(narrow, key)) for key in keys) and all(
        covers(values, narrow.claims.get(name)) for name, values in wide.claims.items()
    )


def _everybody(match: Match) -> bool:
    return _covers(match, Match())


def _unreachable(documents: Sequence[PolicyDocument]) -> Iterator[Problem]:
    extended = {base for document in documents for base in document.extends}
    for document in documents:
        if document.match is None:
            if document.name not in extended:
                yield document.warning((), "is never used: it has no match, and no document extends it")
            continue
        for other in documents:
            if other.match is None or other is document or other.match.default or document.name in extended:
                continue
            above = document.match.default or other.match.priority > document.match.priority
            if above and _covers(other.match, document.match):
                yield document.warning(("spec", "match"), f"is never used: {other.name} is taken wherever it matches")
                break


# --- one document ----------------------------------------------------------------------------------------------------


def _of_match(document: PolicyDocument) -> Iterator[Problem]:
    match = document.match
    if match is None:
        return
    said = document.spec["match"]
    if match.default and len(said) > 1:
        yield document.error(("spec", "match", "default"), "takes no other key: the default is what is left")
    for origin in match.origins or ():
        if origin != ANY and ("://" not in origin or origin.endswith("/") or origin != origin.lower()):
            words = f"{origin!r} can never match: an origin is https://name, lower case, without a path"
            yield document.error(("spec", "match", "origins"), words)
    if match.claims == {} and match.tenants is None and (match.origins or match.deployments):
        words = "matches by what clients say of themselves alone: they choose whether it applies"
        yield document.warning(("spec", "match"), words)


def _of_fields(document: PolicyDocument) -> Iterator[Problem]:
    fields = document.spec.get("session", {}).get("fields", {})
    for path, rule in fields.items():
        yield from _of_rule(document, path, rule)
        if path == "truncation" and "allow" not in rule and "lock" not in rule and "default" not in rule:
            yield document.warning((*_FIELDS, path), "opens nothing without `allow`")
        inner = {member: normal(one) for member, one in fields.items() if outer_of(member) == path}
        for member, one in inner.items():
            if why := contradiction(path, normal(rule), {member: one}):
                yield document.error((*_FIELDS, member), why)


def _of_rule(document: PolicyDocument, path: str, rule: Mapping[str, Any]) -> Iterator[Problem]:
    where = (*_FIELDS, path)
    yield from _contradictions(document, path, rule)
    for key, values in (("lock", [rule.get("lock")]), ("default", [rule.get("default")]), ("allow", rule.get("allow"))):
        if path == "tracing" and key in rule and not (rule[key] in (None, "auto") or isinstance(rule[key], dict)):
            yield document.error((*where, key), "is not a value the service takes: null, auto, or a group of keys")
        if key in rule:
            for value in values or ():
                if why := _unfit(path, value, is_choice=key == "allow"):
                    yield document.error((*where, key), why)


def _contradictions(document: PolicyDocument, path: str, rule: Mapping[str, Any]) -> Iterator[Problem]:
    where = (*_FIELDS, path)
    for key in ("default", "allow", "min", "max"):
        if "lock" in rule and key in rule:
            yield document.error((*where, key), "stands beside lock, which leaves nothing to choose")
    for key in ("min", "max"):
        if key in rule and path not in NUMBER_RANGES:
            yield document.error((*where, key), "the field is no number")
    yield from _out_of_range(document, path, rule)
    if rule.get("min", 0) > rule.get("max", rule.get("min", 0)):
        yield document.error((*where, "min"), "is above max")
    if "lock" not in rule and "default" in rule and not permits(rule, rule["default"]):
        yield document.error((*where, "default"), "is not what the rule allows")


def _out_of_range(document: PolicyDocument, path: str, rule: Mapping[str, Any]) -> Iterator[Problem]:
    """Bounds that leave no number, or that the service would be sent and refuse."""
    if path not in NUMBER_RANGES:
        return
    low, high, is_whole = NUMBER_RANGES[path]
    for key in ("min", "max"):
        if key not in rule:
            continue
        bound = rule[key]
        if is_whole and bound != int(bound):
            yield document.error((*_FIELDS, path, key), "must be a whole number here")
        elif (bound > high) if key == "min" else (bound < low):
            words = f"{bound} leaves nothing: the service takes {low} to {high}"
            yield document.error((*_FIELDS, path, key), words)
        elif path == "max_output_tokens" and bound > high:
            yield document.error((*_FIELDS, path, key), f"{bound} is not a value the service takes: at most {high}")


def _unfit(path: str, value: Any, *, is_choice: bool) -> str:
    """Why the service would not take a value for this field; empty when it would."""
    outer = outer_of(path)
    field = SESSION_FIELDS.get(outer or path)
    if field is None or field.check is None:
        return ""
    whole = value
    if outer is not None:
        name = path.rpartition(".")[2]
        whole = {"type": _KIND_OF.get(name, "server_vad"), name: value}
    try:
        checked = field.check(whole, path)
    except EventError as error:
        return f"{value!r} has the wrong type for {error.param or path}"
    except Unfit:
        return f"{value!r} is not a value the service takes"
    lost = isinstance(whole, dict) and isinstance(checked, dict) and whole.keys() - checked.keys() - {"type"}
    if lost and (is_choice or outer is not None):
        return f"{value!r}: {', '.join(sorted(lost))} cannot be a client's"
    return ""


_KIND_OF = {"eagerness": "semantic_vad"}


def _of_tools(document: PolicyDocument) -> Iterator[Problem]:
    tools = document.spec.get("tools", {})
    names = Counter(tool.get("name") or tool.get("server_label") for tool in tools.get("admin", ()))
    for index, tool in enumerate(tools.get("admin", ())):
        where = ("spec", "tools", "admin", index)
        wanted = {"function": ("name",), "mcp": ("server_label", "server_url")}[tool["type"]]
        for key in wanted:
            if key not in tool:
                yield document.error(where, f"lacks {key}, which a tool of type {tool['type']} needs")
        url = tool.get("server_url", "https://")
        if not url.startswith("https://"):
            yield document.error((*where, "server_url"), "must begin with https://")
        if names[tool.get("name") or tool.get("server_label")] > 1:
            yield document.error(where, "has the name of another one")
        if tool["type"] == "function" and tool.get("name") not in {one["name"] for one in tools.get("client", ())}:
            words = "nothing answers its calls: list it in tools.client too, so that the client sees and answers them"
            yield document.warning(where, words)
    client = Counter(tool["name"] for tool in tools.get("client", ()))
    for index, tool in enumerate(tools.get("client", ())):
        where = ("spec", "tools", "client", index)
        if client[tool["name"]] > 1:
            yield document.error(where, f"{tool['name']} is listed twice")
        if tools.get("clientFunctions") != "allow" and not {"definition", "schemaHash"} & tool.keys():
            yield document.error(where, "needs a definition or a schemaHash: a name alone says nothing of what it does")


def _of_tests(document: PolicyDocument) -> Iterator[Problem]:
    for index, test in enumerate(document.tests):
        where = ("spec", "tests", index)
        if sum(key in test for key in ("client", "server", "mint")) != 1:
            yield document.error(where, "needs exactly one of client, server, mint")
        for number, step in enumerate(test.get("before", ())):
            if len(step) != 1:
                yield document.error((*where, "before", number), "needs exactly one of client, server")
        yield from _of_absences(document, index, test["expect"])
    names = Counter(test["name"] for test in document.tests)
    for index, test in enumerate(document.tests):
        if names[test["name"]] > 1:
            yield document.error(("spec", "tests", index, "name"), "is the name of another test too")
    if document.match is not None and not document.tests:
        yield document.warning((), "has no tests: nothing shows that it does what you mean")


def _of_absences(document: PolicyDocument, index: int, expected: Mapping[str, Any]) -> Iterator[Problem]:
    for word in ("result", "answer"):
        for path, value in expected.get(word, {}).items():
            if value is None and not _can_be(path):
                words = "no event has this path: that it is not there shows nothing"
                yield document.warning(("spec", "tests", index, "expect", word, path), words)


def _can_be(path: str) -> bool:
    """Whether a session can have this path; of other things little is known."""
    top, _, rest = path.partition(".")
    if top != "session" or not rest:
        return True
    known = [*SESSION_FIELDS, *INNER_FIELDS]
    return any(name == rest or name.startswith(rest + ".") or rest.startswith(name + ".") for name in known)


def _of_deployments(document: PolicyDocument, known: Sequence[str]) -> Iterator[Problem]:
    upstream = document.spec.get("upstream", {})
    transcription = upstream.get("transcription", {})
    named: list[tuple[tuple[str, ...], Any]] = [(("default",), upstream.get("default"))]
    named += [(("models", name), value) for name, value in upstream.get("models", {}).items()]
    named += [(("transcription", "default"), transcription.get("default"))]
    named += [(("transcription", "models", name), value) for name, value in transcription.get("models", {}).items()]
    for path, deployment in named:
        if deployment is not None and deployment not in known:
            words = f"there is no deployment {deployment}{nearest(deployment, known)}"
            yield document.warning(("spec", "upstream", *path), words)


def _of_regions(document: PolicyDocument, known: Sequence[str]) -> Iterator[Problem]:
    wanted = document.spec.get("upstream", {}).get("regions", ())
    for index, region in enumerate(wanted):
        if region not in known:
            words = f"no member of the pool is in {region}{nearest(region, known)}"
            if not set(wanted) & set(known):
                words += "; nor in any other of the list: every session is refused"
            yield document.warning(("spec", "upstream", "regions", index), words)


# --- a document with all it extends ----------------------------------------------------------------------------------


def _of_chain(documents: Sequence[PolicyDocument], document: PolicyDocument) -> Iterator[Problem]:
    by_name = {one.name: one for one in documents}
    for index, base in enumerate(document.extends):
        if base not in by_name:
            yield document.error(("spec", "extends", index), f"no document {base}{nearest(base, list(by_name))}")
    try:
        whole, _ = merged(documents, document.name)
    except Unresolved as broken:
        if all(base in by_name for base in document.extends):
            yield document.error(("spec", "extends"), str(broken))
        return
    yield from _of_inheritance(documents, document)
    yield from _of_bases(documents, document)
    yield from _of_instructions(document, whole)
    yield from _of_residency(document, whole)
    if document.match is not None:
        yield from _of_looseness(document, whole)


def _of_inheritance(documents: Sequence[PolicyDocument], document: PolicyDocument) -> Iterator[Problem]:
    said = said_by(document.spec, document.name)
    for base in document.extends:
        for path, words in loosened(merged(documents, base)[0], said):
            yield document.error(_path("spec", path), f"{words} ({base})")


def _of_bases(documents: Sequence[PolicyDocument], document: PolicyDocument) -> Iterator[Problem]:
    """Where two bases want different things and neither is the tighter, their order would decide in silence."""
    for (_, one), (index, other) in itertools.combinations(enumerate(document.extends), 2):
        for path, words in conflicts(merged(documents, one)[0], merged(documents, other)[0]):
            where = dotted(_path("spec", path))
            yield document.error(("spec", "extends", index), f"{other} contradicts {one} at {where}: {words}")


def _of_residency(document: PolicyDocument, whole: Mapping[str, Any]) -> Iterator[Problem]:
    for key in ("regions", "deployments"):
        if whole.get(f"upstream.{key}") == []:
            yield document.error(("spec", "upstream", key), "with those it extends none is left: no session could be")
    allowed = whole.get("upstream.deployments")
    named = [whole.get("upstream.default"), *whole.get("upstream.models", {}).values()]
    for deployment in dict.fromkeys(name for name in named if name is not None):
        if allowed and deployment not in allowed:
            words = f"{deployment} is not among upstream.deployments: its sessions are refused, unless a member "
            yield document.warning(("spec", "upstream", "deployments"), f"{words}calls it otherwise")


def _path(root: str, path: str) -> tuple[str, ...]:
    """`session.fields.[audio.output.voice].allow` as the parts of a path."""
    before, bracket, after = path.partition(".[")
    if not bracket:
        return (root, *path.split("."))
    inside, _, rest = after.partition("]")
    return (root, *before.split("."), inside, *(part for part in rest.split(".") if part))


def _of_instructions(document: PolicyDocument, whole: Mapping[str, Any]) -> Iterator[Problem]:
    own = document.spec.get("instructions", {})
    where = (*_INSTRUCTIONS, "text")
    for braces in misread_braces(own.get("text", "")):
        shown = braces if len(braces) <= 40 else f"{braces[:40]}…"  # noqa: PLR2004
        yield document.error(where, f"{shown!r} is no variable: write {{{{claim.NAME}}}} or set the braces apart")
    text = "\n\n".join(part for _, part in whole.get("instructions.text", ()) if part)
    if len(text.encode()) > INSTRUCTIONS_MAX_BYTES:
        yield document.error(_INSTRUCTIONS, f"with those it extends more than {INSTRUCTIONS_MAX_BYTES} bytes")
    if document.match is not None and not text:
        if whole["instructions.allowEmpty"]:
            yield document.warning(_INSTRUCTIONS, "NO INSTRUCTIONS: the model does as it likes in these sessions")
        else:
            words = "there are none; give text or file, or allowEmpty: true if there shall really be none"
            yield document.error(_INSTRUCTIONS, words)
    for claim in own.get("claimDefaults", {}):
        if claim not in set(claims_named(text)):
            yield document.warning((*_INSTRUCTIONS, "claimDefaults", claim), "no instructions use this claim")
    lower = text.casefold()
    for index, word in enumerate(document.spec.get("canary", {}).get("words", ())):
        if word.casefold() not in lower:
            yield document.warning(("spec", "canary", "words", index), "is not in the instructions")


def _of_looseness(document: PolicyDocument, whole: Mapping[str, Any]) -> Iterator[Problem]:
    match whole["instructions.client"]:
        case "passthrough":
            words = "passthrough: a client's instructions take the place of yours"
            yield document.warning((*_INSTRUCTIONS, "client"), words)
        case "append" if whole["instructions.clientMaxChars"]:
            words = "append: the last word is the client's; say in your text which rules it cannot change"
            yield document.warning((*_INSTRUCTIONS, "client"), words)
        case "prepend" if whole["instructions.clientMaxChars"]:
            words = "prepend: the first word is the client's; say in your text which rules it cannot change"
            yield document.warning((*_INSTRUCTIONS, "client"), words)
    yield from _of_missing_defaults(document, whole["session"]["fields"])
    if whole["mode"] == "disabled":
        yield document.warning(("spec", "mode"), "disabled: none of its rules is applied")
    if whole["mode"] == "audit":
        yield document.warning(("spec", "mode"), "audit: its rules are written down and not carried out")
    if whole["events.passUnknown"]:
        words = "passUnknown: events the relay does not know are searched for policy text, and not understood"
        yield document.warning(("spec", "events", "passUnknown"), words)
    if 0 < whole["canary.overlapWords"] < _EASILY_RECITED:
        words = f"runs of fewer than {_EASILY_RECITED} words occur by chance"
        yield document.warning(("spec", "canary", "overlapWords"), words)
    if whole.get("events.client") == []:
        yield document.warning(("spec", "events", "client"), "no client event passes at all")


def _of_missing_defaults(document: PolicyDocument, fields: Mapping[str, Any]) -> Iterator[Problem]:
    for path, words in (
        ("audio.output.voice", "has no default: until a client chooses, the service's own voice speaks"),
        ("max_output_tokens", "has no default: until a client chooses, answers have no cap"),
    ):
        rule = fields.get(path, {})
        if rule.get("allow") and not {"default", "max"} & rule.keys():
            yield document.warning((*_FIELDS, path), words)
