"""What the page's sources must keep to, read without a browser."""

from __future__ import annotations

import re
from pathlib import Path

from relay.errors import EndReason

WEB = Path(__file__).parents[2] / "web"
MODULES = {path.name: path.read_text(encoding="utf-8") for path in WEB.glob("*.js")}
HTML = (WEB / "index.html").read_text(encoding="utf-8")
CONSOLE = {path: path.read_text(encoding="utf-8") for path in (WEB / "console").rglob("*.js")}
CONSOLE_HTML = (WEB / "console" / "index.html").read_text(encoding="utf-8")
NAMESPACES = {"http://www.w3.org/2000/svg"}


def test_every_failure_has_words_and_every_words_a_failure():
    raised = {code for source in MODULES.values() for code in re.findall(r'new Failure\(\s*"(\w+)"', source)}
    block = re.search(r"\n  failures: \{\n(.*?)\n  \},\n", MODULES["texts.js"], re.DOTALL)
    assert block is not None
    assert raised == set(re.findall(r"^    (\w+): \(", block[1], re.MULTILINE))


def test_every_conclusion_of_the_check_has_words():
    body = re.search(r"function conclusionOf\(.*?\n}\n", MODULES["check.js"], re.DOTALL)
    assert body is not None
    drawn = set(re.findall(r'(?:code: |[?:] )"(\w+)"', body[0]))
    block = re.search(r"\n    conclusions: \{\n(.*?)\n    \},\n", MODULES["texts.js"], re.DOTALL)
    assert block is not None
    assert drawn == set(re.findall(r"^      (\w+): \(", block[1], re.MULTILINE))


def test_nothing_is_inline_and_nothing_comes_from_elsewhere():
    inline = r"<(?:style\b|script(?![^>]*\bsrc=)[^>]*>)|\s(?:style|on\w+)="
    assert re.findall(inline, HTML) == re.findall(inline, CONSOLE_HTML) == []
    addresses = {
        found
        for source in [*MODULES.values(), HTML, *CONSOLE.values(), CONSOLE_HTML]
        for found in re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^'\"\s)]*", source)
    }
    assert addresses <= NAMESPACES


def test_texts_stand_in_one_place():
    """Words between tags of index.html, other than the line for browsers without scripts, would escape translation."""
    for page in (HTML, CONSOLE_HTML):
        words = [text.strip() for text in re.findall(r">([^<>]+)<", page) if text.strip()]
        assert words == ["This page needs JavaScript."]


def test_the_console_makes_no_markup_of_text_and_keeps_nothing_beyond_the_tab():
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|\beval\("
    forbidden = rf"{markup}|localStorage|\.cookie"
    assert [(path.name, found) for path, text in CONSOLE.items() for found in re.findall(forbidden, text)] == []


def test_every_module_of_the_console_is_named_in_its_readme():
    readme = (WEB / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in CONSOLE if path.parent.name == "console"} <= set(re.findall(r"`(\w+\.js)`", readme))


def test_the_console_knows_every_end_reason():
    known = set(re.findall(r'^  "(\w+)",$', CONSOLE[WEB / "console" / "reasons.js"], re.MULTILINE))
    assert {reason.value for reason in EndReason} <= known
