"""Functions for the model: the administrator's are always there, a client's as far as the policy lets it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from relay.core.events import EventError
from relay.core.field_checks import Unfit, choice, free_object, record, tagged, text, wrong_type
from relay.core.policy_rules import ClientTool, Strictness, ToolRules
from relay.core.verdicts import Rule
from relay.errors import ErrorCode

_LONGEST_DESCRIPTION = 262_144
_MOST_TOOLS = 128
_HASH_PREFIX = "sha256:"

_MEMBERS = frozenset({"type", "name", "description", "parameters"})
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
function_name = text(64, r"[A-Za-z0-9_-]+")
_function = tagged(
    "type",
    {
        "function": record(
            {
                "type": choice("function"),
                "name": function_name,
                "description": text(_LONGEST_DESCRIPTION),
                "parameters": free_object,
            },
            required=("type", "name"),
        )
    },
)


@dataclass(frozen=True, slots=True)
class JudgedTools:
    """The functions a client may bring, `rule` what touched them (ALLOWED: nothing)."""

    functions: list[dict[str, Any]]
    rule: Rule = Rule.ALLOWED


def schema_hash(function: dict[str, Any]) -> str:
    """`sha256:` and the hash of a function's name, description and parameters, in canonical JSON.

    The description is part of it: to the model it is text like any instruction.
    """
    said = {name: function[name] for name in ("name", "description", "parameters") if name in function}
    form = json.dumps(said, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return _HASH_PREFIX + hashlib.sha256(form.encode()).hexdigest()


def judge_tools(value: Any, path: str, rules: ToolRules) -> JudgedTools:
    """Judge a client's list of tools. MCP servers and connectors would have the service call where a client says.

    Raises EventError for a wrong type, and for what is not allowed when the policy says REFUSE.
    """
    if not isinstance(value, list):
        raise wrong_type(path)
    if len(value) > max(_MOST_TOOLS, rules.max_tools):
        raise EventError(ErrorCode.INVALID_VALUE, path, Rule.TOOLS_CLIENT)  # before any of them is read
    known = {tool.name: tool for tool in rules.client}
    taken = admin_names(rules)
    functions: list[dict[str, Any]] = []
    touched = Rule.ALLOWED
    for index, entry in enumerate(value):
        is_mcp = isinstance(entry, dict) and entry.get("type") == "mcp"
        function = None if is_mcp else _allowed(entry, f"{path}[{index}]", rules, known)
        if function is None:
            touched = Rule.TOOLS_MCP if is_mcp or touched is Rule.TOOLS_MCP else Rule.TOOLS_CLIENT
        elif function["name"] in taken:
            touched = Rule.TOOLS_MCP if touched is Rule.TOOLS_MCP else Rule.TOOLS_ADMIN
        else:
            taken.add(function["name"])
            functions.append(function)
    if touched is not Rule.ALLOWED and rules.client_functions is Strictness.REFUSE:
        raise EventError(ErrorCode.POLICY_VIOLATION, path, touched)
    room = max(0, rules.max_tools - len(rules.admin))
    if touched is Rule.ALLOWED and (len(functions) > room or functions != value):
        touched = Rule.TOOLS_CLIENT
    return JudgedTools(functions[:room], touched)


def all_tools(rules: ToolRules, functions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the service is given: the administrator's tools, then the client's functions."""
    return [*rules.admin, *functions]


def client_functions(echoed: Any, rules: ToolRules) -> list[dict[str, Any]]:
    """Of the tools the service echoes, those that are a client's and that it may have."""
    if not isinstance(echoed, list):
        return []
    admins = admin_names(rules)
    own = [tool for tool in echoed if isinstance(tool, dict) and str(tool.get("name")) not in admins]
    return kept_functions(own, rules)


def kept_functions(functions: Iterable[dict[str, Any]], rules: ToolRules) -> list[dict[str, Any]]:
    """Of a client's functions those that it may have under these rules."""
    asked = list(functions)[: max(_MOST_TOOLS, rules.max_tools)]
    try:
        return judge_tools(asked, "session.tools", replace(rules, client_functions=_no_refusal(rules))).functions
    except EventError:
        return []  # not well-formed: the service would not have taken it from us


def _no_refusal(rules: ToolRules) -> Strictness:
    """Nobody asks here, so that nobody can be refused."""
    return Strictness.ALLOW if rules.client_functions is Strictness.ALLOW else Strictness.STRIP


def admin_names(rules: ToolRules) -> set[str]:
    """Names of the administrator's functions; a client's function of such a name is left out."""
    return {tool["name"] for tool in rules.admin if isinstance(tool.get("name"), str)}


def hidden_names(rules: ToolRules) -> frozenset[str]:
    """Functions whose calls are not the client's business: the administrator's that no client may bring itself."""
    return frozenset(admin_names(rules) - {tool.name for tool in rules.client})


def shown_tools(value: Any, rules: ToolRules, hidden: frozenset[str] = frozenset()) -> Any:
    """The tools of an echo for a client: its own functions; of those the administrator defines, the name alone."""
    if not isinstance(value, list):
        raise Unfit
    admin, defined = admin_names(rules) | hidden, {tool.name for tool in rules.client if tool.definition is not None}
    shown = []
    for tool in value:
        name = tool.get("name") if isinstance(tool, dict) and tool.get("type") == "function" else None
        if not isinstance(name, str) or name in admin:
            continue
        names = ("type", "name") if name in defined else ("type", "name", "description", "parameters")
        shown.append({name: tool[name] for name in names if name in tool})
    return shown


def _is_plain(entry: Any) -> bool:
    """Whether a function is what the check would rebuild; nearly every one is."""
    if not isinstance(entry, dict) or not entry.keys() <= _MEMBERS or entry.get("type") != "function":
        return False
    name, description = entry.get("name"), entry.get("description", "")
    named = isinstance(name, str) and _NAME.fullmatch(name) is not None
    described = isinstance(description, str) and len(description) <= _LONGEST_DESCRIPTION
    return named and described and isinstance(entry.get("parameters", {}), dict)


def _allowed(entry: Any, path: str, rules: ToolRules, known: dict[str, ClientTool]) -> dict[str, Any] | None:
    """The function to send for one that a client brought; None when it may not."""
    try:
        function: dict[str, Any] = entry if _is_plain(entry) else _function(entry, path)
    except Unfit:
        return None
    listed = known.get(function["name"])
    if listed is not None and listed.definition is not None:
        return {**listed.definition, "type": "function", "name": listed.name}
    if rules.client_functions is Strictness.ALLOW:
        return function
    if listed is None or listed.schema_hash != schema_hash(function):
        return None
    return function
