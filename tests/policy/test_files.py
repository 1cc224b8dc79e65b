"""Files of policies: YAML without traps, lines in every error, instructions from files that stay where they belong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import policy_yaml
from relay.core.policy_document import read_document
from relay.core.policy_resolve import ServiceDefaults
from relay.errors import ConfigError
from relay.policy_files import FILE_MAX_BYTES, PolicyLoadError, check_policies, load_policies
from relay.policy_loading import load
from relay.policy_yaml import MAX_DOCUMENTS, read_yaml_documents

HEAD = "apiVersion: relay/v1\nkind: SessionPolicy\nmetadata: {name: one}\n"
GOOD = HEAD + "spec:\n  match: {default: true}\n  instructions: {text: Hello.}\n"


def value_of(text):
    documents, problems = read_yaml_documents(f"a: {text}\n", "f.yaml")
    return documents[0].data["a"] if not problems else str(problems[0])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("0", 0),
        ("0.8", 0.8),
        ("'no'", "no"),
        ('"0777"', "0777"),
        ("marin", "marin"),
        ("y", "y"),
        ("[a, 1]", ["a", 1]),
        ("|\n  two\n  lines", "two\nlines\n"),
        ("gpt-realtime", "gpt-realtime"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_a_value_is_what_it_looks_like(text, value):
    assert value_of(text) == value
    assert type(value_of(text)) is type(value)


@pytest.mark.parametrize("text", ["no", "off", "on", "yes", "No", "TRUE", "True", "FALSE"])
def test_words_that_are_booleans_to_some_readers_are_refused(text):
    assert "true or false to some readers" in value_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "0777",
        "0x1F",
        "0b1",
        "1_000",
        "1:30",
        "1:30:00",
        "2026-11-20",
        ".inf",
        "-.inf",
        ".nan",
        "+1",
        "1e3",
        "0o17",
        "1.",
        ".5",
    ],
)
def test_numbers_and_times_that_readers_differ_on_are_refused(text):
    assert "reads as a number, a time or text by turns" in value_of(text)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a: is given twice, first on line 1"),
        ("a:\n  b: {c: 1, c: 2}\n", 2, "a.b.c: is given twice, first on line 2"),
        ("on: 1\n", 1, "a key is not plain text ('on'); put it in quotes"),
        ("a:\n  1: x\n", 2, "a key is not plain text"),
        ("a: {<<: {b: 1}}\n", 1, "a key is not plain text"),
        ("? [x]\n: 1\n", 1, "a key is not plain text"),
        ("a: &x 1\n", 1, "anchors (&) and aliases (*)"),
        ("a: 1\nb: *x\n", 2, "anchors (&) and aliases (*)"),
        ("a: !!python/name:os.system x\n", 1, "YAML tag"),
        ("a: !thing x\n", 1, "YAML tag"),
        ("a: !thing {b: 1}\n", 1, "YAML tag"),
        ("a: !!str 12\n", 1, "YAML tag"),
        ("a: !!binary aGk=\n", 1, "YAML tag"),
        ("a:\n\tb: 1\n", 2, "not YAML"),
        ("a: 'x\n", 2, "not YAML"),
        ("a: " + "[" * 40 + "]" * 40 + "\n", 1, "nested too deeply"),
    ],
)
def test_what_is_wrong_with_the_form_is_told_with_its_line(text, line, words):
    _, problems = read_yaml_documents(text, "f.yaml")
    assert any(str(one).startswith(f"f.yaml:{line}: ") and words in str(one) for one in problems), problems


def test_a_tag_that_says_what_is_so_anyway_is_refused_too():
    assert "YAML tag" in value_of("!!int 12")


def test_deep_nesting_is_no_crash():
    _, problems = read_yaml_documents("a: " + "[" * 5_000, "f.yaml")
    assert problems


def test_several_documents_of_one_file_know_their_lines(policies, errors):
    second = HEAD.replace("one", "two") + "spec:\n  limits: {sessionSeconds: 1}\n"
    checked = policies(a_yaml=f"{GOOD}---\n{second}")
    assert errors(checked.problems)[0].partition(".yaml:")[2].startswith("12: error: spec.limits.sessionSeconds: 1 is")


def test_too_many_documents_are_refused():
    _, problems = read_yaml_documents("---\na: 1\n" * (MAX_DOCUMENTS + 1), "f.yaml")
    assert "more than" in str(problems[0])


def test_too_many_values_are_refused_before_the_rest_is_read(monkeypatch):
    monkeypatch.setattr(policy_yaml, "MAX_VALUES", 7)
    assert read_yaml_documents("a: 1\nb: 2\n", "f.yaml")[1] == []
    _, [problem] = read_yaml_documents("---\na: 1\n---\nb: 2\nc: [", "f.yaml")  # the end would be no YAML
    assert str(problem) == "f.yaml:5: error: not YAML: holds more than 7 values"


def test_a_directory_is_read_in_order_of_name_without_hidden_and_other_files(policies):
    checked = policies(
        b_yaml=GOOD.replace("one", "b").replace("default: true", "tenants: [x]"),
        a_yaml=GOOD,
        **{
            ".hidden_yaml": "not: [closed",
            "notes.txt": "x: [",
            "c.yml": GOOD.replace("one", "c").replace("{default: true}", "{tenants: [y]}"),
        },
    )
    assert [document.name for document in checked.documents] == ["one", "b", "c"]
    assert checked.errors == ()


def test_one_file_can_be_given(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("\ufeff" + GOOD, "utf-8")
    assert load_policies(str(path)).documents[0].spec["instructions"]["text"] == "Hello."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a: \xff\n", "is not UTF-8 (line 1)"),
        (b"x" * (FILE_MAX_BYTES + 1), "is larger than"),
        (b"", "holds no document"),
    ],
)
def test_files_that_cannot_be_read_are_named(policies, text, words):
    assert words in policies(a_yaml=text).errors[0]


@pytest.mark.parametrize("name", ["b.yaml", "b.yml", "b.YAML"])
@pytest.mark.parametrize("kind", ["fifo", "directory", "dangling"])
def test_what_looks_like_a_policy_and_is_no_file_is_an_error(tmp_path, policies, name, kind):
    place = tmp_path / name
    match kind:
        case "fifo":
            os.mkfifo(place)
        case "directory":
            place.mkdir()
        case "dangling":
            place.symlink_to("gone.yaml")
    (problem,) = policies(a_yaml=GOOD).errors
    assert problem.endswith(f"{name}: error: is no file that can be read")


def test_the_case_of_the_suffix_does_not_matter(tmp_path):
    (tmp_path / "Strict.YAML").write_text(GOOD)
    assert [document.name for document in check_policies(str(tmp_path)).documents] == ["one"]


@pytest.mark.parametrize(
    "text", ['a: "\\UFFFFFFFF"\n', "%YAML " + "1" * 5_000 + ".1\n---\na: b\n"], ids=["character", "version"]
)
def test_numbers_beyond_all_bounds_are_a_problem_with_a_line(text):
    documents, (problem,) = read_yaml_documents(text, "f.yaml")
    assert documents == []
    assert str(problem) == "f.yaml:1: error: not YAML: a character or number that cannot be"


SECRET = "TOP-SECRET-RULES"
APPENDING = GOOD.replace("{text: Hello.}", f"{{text: {SECRET} never say X, client: append}}")
TEST = "  tests:\n  - {{name: t, {}}}\n"
UPDATED = "client: {type: session.update, session: {type: realtime, instructions: hi}}"


@pytest.mark.parametrize(
    "text",
    [
        APPENDING + TEST.format(UPDATED + ", expect: {decision: rewrite, result: {session.instructions: null}}"),
        APPENDING + TEST.format("mint: {}, expect: {decision: forward, result: {session.model: 'TOP-SECRET-RULES'}}"),
        GOOD + f"  canary: {{words: {SECRET}}}\n",
        HEAD + f"spec:\n  instructions:\n    text: |\n      Be nice.\n    Never say {SECRET}: it is our code\n",
        GOOD.replace("{text: Hello.}", f"{{client: '{SECRET} never say X'}}"),
        GOOD.replace("Hello.", f"'use {{{{{SECRET}}}}} here'"),
        GOOD.replace("Hello.", f"yes {SECRET}: a: b"),
        GOOD + f"  {SECRET}: 1\n  {SECRET}: 2\n",
        GOOD + f"  session: {{fields: {{audio.output.voice: {{lock: '{SECRET}?'}}}}}}\n",
        GOOD + f"  match: {{claims: {{'{SECRET}': []}}}}\n",
    ],
    ids=["test", "mint test", "type", "indent", "enum", "braces", "yaml", "twice", "value", "claim"],
)
def test_nothing_of_a_document_is_in_what_may_stand_in_a_log(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(PolicyLoadError) as caught:
        load_policies(str(tmp_path))
    assert SECRET not in caught.value.public
    assert caught.value.public.count(str(tmp_path / "a.yaml")) == len(caught.value.public.splitlines())
    with pytest.raises(ConfigError) as told:
        load(str(tmp_path), ServiceDefaults())
    assert str(told.value) == caught.value.public


def test_what_may_stand_in_a_log_says_where_and_what_about(tmp_path):
    (tmp_path / "a.yaml").write_text(GOOD + f"  canary: {{words: {SECRET}}}\n")
    with pytest.raises(PolicyLoadError) as caught:
        load_policies(str(tmp_path))
    place = f"{tmp_path}/a.yaml:7: error: spec.canary.words: "
    why = "does not have the form that the schema asks for; `relay policy lint` says why"
    assert caught.value.public == place + why


def test_a_key_cannot_forge_a_line_of_output(policies):
    (problem,) = policies(a_yaml=GOOD + '  "x\\npolicies/x.yaml:1: warning: nothing": 1\n').errors[:1]
    assert "\n" not in problem


def test_nowhere_is_said_so(tmp_path):
    with pytest.raises(ConfigError, match="no such file or directory"):
        check_policies(str(tmp_path / "gone"))
    with pytest.raises(PolicyLoadError, match="holds no"):
        load_policies(str(tmp_path))


def test_all_problems_are_told_at_once(policies):
    with_two = GOOD.replace("Hello.", "[1]").replace("default: true", "defualt: true")
    assert len(policies(a_yaml=with_two).errors) == 2


# --- instructions from files ---


def with_file(name):
    return GOOD.replace("{text: Hello.}", f"{{file: {name!r}}}")


def test_instructions_come_from_a_file_below_the_document(policies):
    checked = policies(
        a_yaml=with_file("prompts/one.md"), prompts__one_md=b"\xef\xbb\xbf\r\n Be kind.\r\nBe brief.\n\n"
    )
    assert checked.errors == ()
    assert checked.documents[0].spec["instructions"] == {"text": "Be kind.\nBe brief."}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/etc/passwd", "must be a path below"),
        ("../outside.md", "must be a path below"),
        ("prompts/../../outside.md", "must be a path below"),
        ("..\\outside.md", "must be a path below"),
        (".prompts/one.md", "lies in or under a name that begins with a dot"),
        ("gone.md", "there is no such file"),
        ("prompts", "there is no such file"),
    ],
)
def test_other_files_are_refused(policies, name, words):
    checked = policies(a_yaml=with_file(name), prompts__one_md="x")
    assert f"spec.instructions.file: {words}" in checked.errors[0]
    assert "a.yaml:6: " in checked.errors[0]


def test_a_link_out_of_the_directory_is_not_followed(tmp_path, policies):
    outside = tmp_path.parent / f"{tmp_path.name}-outside.md"
    outside.write_text("secret")
    (tmp_path / "link.md").symlink_to(outside)
    assert "leads out of the policies' directory" in policies(a_yaml=with_file("link.md")).errors[0]


def test_links_within_the_directory_are_how_config_maps_work(tmp_path, policies):
    version = tmp_path / "..2026_11_20"
    version.mkdir()
    (version / "a.yaml").write_text(with_file("one.md"))
    (version / "one.md").write_text("Be kind.")
    (tmp_path / "..data").symlink_to(version.name)
    for name in ("a.yaml", "one.md"):
        (tmp_path / name).symlink_to(Path("..data") / name)
    checked = check_policies(str(tmp_path))
    assert checked.errors == ()
    assert checked.documents[0].spec["instructions"]["text"] == "Be kind."


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"x" * 65_537, "is larger than 65536 bytes"),
        (b"\xc3", "is not UTF-8"),
        (b"a\x1b[31m", "control character (U+001B)"),
    ],
)
def test_text_that_cannot_be_instructions_is_refused(policies, content, words):
    assert words in policies(a_yaml=with_file("one.md"), one_md=content).errors[0]


@given(st.text(alphabet="ab:-[]{}!&*?|>'\"#%@`,\n \t\x00\ufeff0.~<", max_size=60))
def test_no_text_crashes_the_reader(text):
    documents, problems = read_yaml_documents(text, "f.yaml")
    for found in documents:
        assert read_document(found.data, found.source)[1]
    assert all(str(one).startswith("f.yaml") for one in problems)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just("spec"), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(JSON)
def test_no_data_crashes_the_check_of_a_document(data):
    found, problems = read_document(data)
    assert found is None
    assert all(str(problem) for problem in problems)
