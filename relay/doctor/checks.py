"""What a check of `relay doctor` is: its name from a closed list, its status, what was seen, what to do.

Every name is a heading of the table in `docs/reference/doctor.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

T = TypeVar("T")


class Status(StrEnum):
    """How a check came out; only `fail` makes the command exit with an error."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


class CheckName(StrEnum):
    """What is looked at."""

    CONFIGURATION = "configuration"
    POLICIES = "policies"
    DECISION_LOG = "decision_log"
    CERTIFICATE = "certificate"
    VERSIONS = "versions"
    FILE_LIMIT = "file_limit"
    HTTP_PORT = "http_port"
    OPERATIONS_PORT = "operations_port"
    MEDIA_UDP = "media_udp"
    MEDIA_TCP = "media_tcp"
    ADVERTISED = "advertised"
    MEDIA_PATH = "media_path"
    ICE_SERVER = "ice_server"
    SERVICE_DNS = "service_dns"
    SERVICE_TCP = "service_tcp"
    SERVICE_TLS = "service_tls"
    CLOCK = "clock"
    CREDENTIALS = "credentials"
    EGRESS_UDP = "egress_udp"
    EGRESS_PORTS = "egress_ports"
    EGRESS_PROXY = "egress_proxy"
    EGRESS_TURN = "egress_turn"
    ISSUER = "issuer"
    STORE = "store"
    REDIS = "redis"
    ADMINISTRATORS = "administrators"


@dataclass(frozen=True, slots=True)
class Check:
    """One outcome. `subject` tells checks of one name apart (a URL, an address); `advice` is "" where nothing is to do.

    Neither text ever holds a secret.
    """

    name: CheckName
    status: Status
    seen: str
    advice: str = ""
    subject: str = ""


def failures(checks: Sequence[Check]) -> tuple[Check, ...]:
    """The checks that failed."""
    return tuple(check for check in checks if check.status is Status.FAIL)


async def in_thread(call: Callable[[], T]) -> T:
    """Run a blocking call in a thread that nobody waits for: one past its deadline holds up neither check nor exit.

    The executor of the event loop would: leaving the loop waits for its threads, and a dead name server takes long.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # the call's own result

    def work() -> None:
        result, failure = None, None
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - handed to who awaits it
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: the answer came too late for anybody
            loop.call_soon_threadsafe(finish, result, failure)

    threading.Thread(target=work, daemon=True, name="doctor").start()
    return await done
