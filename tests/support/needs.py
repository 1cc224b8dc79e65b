"""What a test needs of the machine: without it the test is skipped and says why, but never in CI."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def lacking(reason: str) -> NoReturn:
    """Skip the test; in CI fail it, because there a skipped test must not look like a passed one."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"not in CI: {reason}")
    pytest.skip(reason)


def program(*names: str, package: str = "") -> str:
    """The path of the first of these programs that is there; `package` is Debian's, the first name unless given."""
    for name in names:
        if (path := shutil.which(name)) is not None:
            return path
    lacking(f"no {names[0]} on this machine (apt-get install {package or names[0]})")
