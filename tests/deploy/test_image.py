"""The image's recipe: what a linter says of it, that it matches the package, and its steps on this machine."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import site
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import pytest
from support.deployment import DEPLOY, ROOT, compose

from relay.cli import _parser
from relay.config import catalogue
from relay.health import Probe
from relay.health import _parser as health_parser

DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
IGNORE = (ROOT / ".dockerignore").read_text("utf-8").split("\n")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
DEFAULTS = {spec.name: spec.default for spec in catalogue()}
NOBODY = 65532


def instructions(name):
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name} +(.*)$", joined, re.MULTILINE)


def sent(path: str) -> bool:
    """Whether the builder is sent this file: the last line of .dockerignore that matches it decides."""
    kept = True
    for line in (line.strip() for line in IGNORE):
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = [path, *(str(parent) for parent in Path(path).parents), *Path(path).parts]
        if any(fnmatch.fnmatchcase(part, pattern) for part in parts):
            kept = line.startswith("!")
    return kept


def test_a_linter_finds_nothing():
    linter = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if linter is None:
        pytest.skip("needs hadolint (pip install '.[deploy]')")
    done = subprocess.run([linter, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_builder_is_sent_what_the_wheel_is_made_of_and_no_more():
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = ["pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]]
    needed += [*wheel["packages"], *wheel["force-include"]]
    if "custom" in wheel.get("hooks", {}):
        needed.append("hatch_build.py")
    for name in needed:
        assert (ROOT / name).exists(), name
        assert sent(name), name
    assert sent("relay/core/policy.py")
    for name in (".git/config", "relay.yaml", "secrets/azure-key", ".venv/bin/python", "tests/conftest.py", ".env"):
        assert not sent(name), name
    assert not sent("relay/__pycache__/cli.cpython-311.pyc")


def test_both_stages_stand_on_the_base_that_was_asked_for():
    bases = [each.split(" AS ")[0] for each in instructions("FROM")]
    assert bases == ["${PYTHON_IMAGE}${PYTHON_DIGEST:+@${PYTHON_DIGEST}}"] * 2
    (image, _digest, _extras) = instructions("ARG")
    version = re.search(r":(\d+)\.(\d+)-slim", image)
    assert tuple(map(int, version.groups())) >= (3, 11)


def test_what_speaks_to_a_shared_store_is_in_it():
    (_image, _digest, extras) = instructions("ARG")
    wanted = set(re.fullmatch(r"EXTRAS=\[(.*)\]", extras)[1].split(","))
    assert {"postgres", "redis"} <= wanted <= set(PROJECT["project"]["optional-dependencies"])


def test_it_is_told_as_the_relay_is():
    assert instructions("ENTRYPOINT") == ['["/opt/relay/bin/relay"]']
    (words,) = instructions("CMD")
    _parser().parse_args(json.loads(words))
    (health,) = re.findall(r"HEALTHCHECK .*CMD (\[.*\])", DOCKERFILE.replace("\\\n", " "))
    program, *rest = json.loads(health)
    assert (program, rest[:2]) == ("/opt/relay/bin/python", ["-m", "relay.health"])
    # A relay that drains must not be taken for a sick one.
    assert health_parser().parse_args(rest[2:]).probe is Probe.ALIVE
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    assert instructions("USER") == [f"{NOBODY}:{NOBODY}"]
    wanted = {f"{DEFAULTS[name]}/tcp" for name in ("http.port", "admin.port", "ice.tcp_port")}
    assert set(" ".join(instructions("EXPOSE")).split()) == wanted | {f"{DEFAULTS['ice.udp_port']}/udp"}


@pytest.fixture(scope="module")
def installed():
    """The environment that the recipe's steps make of what the builder is sent; with this one's dependencies."""
    pytest.importorskip("hatchling", reason="needs hatchling (pip install '.[deploy]')")
    with tempfile.TemporaryDirectory(prefix="relay-image-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        source, wheels, target = directory / "source", directory / "wheels", directory / "relay"
        for path in subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.splitlines():
            if sent(path) and (ROOT / path).is_file():
                (source / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / path, source / path)
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        build = ["wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(wheels), str(source)]
        subprocess.run([*pip, *build], check=True, capture_output=True, timeout=100)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", target], check=True)
        (wheel,) = wheels.glob("*.whl")
        subprocess.run(
            [*pip, "--python", target / "bin" / "python", "install", "--no-deps", "--no-index", wheel],
            check=True, capture_output=True, timeout=100,
        )  # fmt: skip
        (libraries,) = target.glob("lib/python*/site-packages")
        (libraries / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
        subprocess.run(["chmod", "-R", "a-w", str(target)], check=True)
        yield target
        subprocess.run(["chmod", "-R", "u+w", str(target)], check=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def as_nobody():
    """What makes a command run as the image's user, who may read everything here and write nothing."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        return []
    # This interpreter may be in a home directory that the user of the image would not be let into.
    reads = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search", "--no-new-privs"]
    return [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *reads]


@pytest.mark.long
def test_what_the_steps_make_runs_without_root_and_writes_nothing(installed):
    admin = free_port()
    environment = {
        "PATH": f"{installed}/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        # There is no place for temporary files, and none is missed.
        "TMPDIR": str(installed),
        **{
            name: value
            for name, value in compose()["services"]["relay"]["environment"].items()
            if "RELAY_ICE" not in name
        },
        "RELAY_INSTRUCTIONS_FILE": str(DEPLOY / "compose" / "instructions.txt"),
        "RELAY_HTTP_PORT": str(free_port()),
        "RELAY_HTTP_HOST": "127.0.0.1",
        "RELAY_ADMIN_HOST": "127.0.0.1",
        "RELAY_ADMIN_PORT": str(admin),
        "RELAY_ICE_HOSTS": "127.0.0.1",
        "RELAY_ICE_UDP_PORT": "0",
        "RELAY_ICE_TCP_PORT": "0",
    }
    del environment["RELAY_STATE_DIRECTORY"], environment["RELAY_ADMIN_KEY_FILE"]
    before = listing(installed)
    relay = subprocess.Popen(
        [*as_nobody(), installed / "bin" / "relay", "serve"], cwd="/", env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    ask = [*as_nobody(), installed / "bin" / "python", "-m", "relay.health"]
    try:
        deadline = time.monotonic() + 60
        while subprocess.run([*ask, "readyz"], env=environment, capture_output=True, check=False).returncode != 0:
            assert relay.poll() is None, relay.stdout.read().decode()
            assert time.monotonic() < deadline, "not ready within 60 s"
        assert subprocess.run(ask, env=environment, check=False, capture_output=True).stdout == b"alive\n"
    finally:
        relay.terminate()
        output = relay.communicate(timeout=30)[0].decode()
    assert relay.returncode == 0, output
    assert listing(installed) == before
    done = subprocess.run([*ask, "--timeout", "1"], env=environment, capture_output=True, check=False)
    assert done.returncode == 1
    assert f"no answer from 127.0.0.1 port {admin}" in done.stderr.decode()


def listing(directory):
    return sorted((str(path), path.lstat().st_mtime_ns) for path in directory.rglob("*"))
