"""Builds the compiled forwarder (`relay/rtc/forwarding_c/`) into the wheel, or in place for an editable install.

It is optional: where there is no Linux, compiler or Python header the package is built without it and says so; the
forwarder in Python serves then.
"""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODULE = "relay.rtc._forwarding"
DIRECTORY = "relay/rtc/forwarding_c"
# Named, not searched for: one that is missing is then an error, not a library without it.
SOURCES = ["forwarder.c", "module.c", "poller.c", "reader.c"]
FLAGS = [
    "-O2",
    "-std=c11",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Wno-missing-field-initializers",
    "-fno-strict-aliasing",
    # What its files share is not for other libraries.
    "-fvisibility=hidden",
]


class ForwarderHook(BuildHookInterface):  # type: ignore[type-arg]
    """What hatchling calls when it builds a wheel."""

    PLUGIN_NAME = "custom"
    _scratch = ""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say what there is to include."""
        if not sys.platform.startswith("linux") or platform.python_implementation() != "CPython":
            self.app.display_warning("The compiled forwarder is for CPython on Linux; the one in Python serves here.")
            return
        self._scratch = tempfile.mkdtemp(prefix="forwarder-")
        try:
            built = compiled(Path(self.root), self._scratch)
        except Exception as error:  # noqa: BLE001 - whatever a compiler may lack, the package works without
            self.app.display_warning(f"The compiled forwarder was not built; the one in Python serves. {error}")
            return
        if version == "editable":
            target = Path(self.root, DIRECTORY).with_name(built.name)
            # Replaced, not overwritten: a process may run with the old one.
            target.unlink(missing_ok=True)
            target.write_bytes(built.read_bytes())
            return
        build_data["force_include"][str(built)] = str(Path(DIRECTORY).with_name(built.name))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Leave nothing behind once the wheel is written."""
        del version, build_data, artifact_path
        shutil.rmtree(self._scratch, ignore_errors=True)


def compiled(root: Path, scratch: str) -> Path:
    """Compile with setuptools in a scratch directory; the library. Raises whatever setuptools raises."""
    from setuptools import Distribution, Extension  # noqa: PLC0415 - without it there is a warning, no failure
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415

    sources = [str(root / DIRECTORY / name) for name in SOURCES]
    extension = Extension(MODULE, sources, extra_compile_args=FLAGS)
    command = build_ext(Distribution({"name": "realtime-relay", "ext_modules": [extension]}))
    command.build_lib, command.build_temp = scratch, scratch
    command.ensure_finalized()
    command.run()
    return Path(command.get_ext_fullpath(MODULE))
