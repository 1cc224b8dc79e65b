from __future__ import annotations

import textwrap

import pytest

from relay.core.policy_check import Severity
from relay.core.policy_document import read_document
from relay.core.policy_resolve import Identity, PolicyRequest, ServiceDefaults, resolve
from relay.policy_files import check_policies

DEFAULTS = ServiceDefaults("settings-rt", "settings-transcribe")


def written(name, text=None, **spec):
    """A document as plain data."""
    if text is not None:
        spec.setdefault("instructions", {})["text"] = text
    return {"apiVersion": "relay/v1", "kind": "SessionPolicy", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="session")
def document():
    """Read a document that has the right form."""

    def read(name, text=None, **spec):
        found, problems = read_document(written(name, text, **spec))
        assert problems == []
        return found

    return read


@pytest.fixture(scope="session")
def resolved():
    """Resolve documents for a session."""

    def run(*documents, tenant="default", model=None, origin=None, **claims):
        return resolve(documents, Identity(tenant, claims=claims, origin=origin), PolicyRequest(model), DEFAULTS)

    return run


@pytest.fixture
def policies(tmp_path):
    """Write files and check the directory; `text` values are dedented."""

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_yaml", ".yaml").replace("_md", ".md")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
        return check_policies(str(tmp_path))

    return write


@pytest.fixture(scope="session")
def errors():
    """The errors among problems, as texts."""
    return lambda problems: [str(one) for one in problems if one.severity is Severity.ERROR]


@pytest.fixture(scope="session")
def warnings():
    """The warnings among problems, as texts."""
    return lambda problems: [str(one) for one in problems if one.severity is Severity.WARNING]
