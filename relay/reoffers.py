"""The offers of one session's client that wait for their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from relay.core.lifecycle import Reanswered, ReofferFact, ReofferRefused
from relay.errors import ApiError, ErrorCode

# Offers of one client that wait for their answer.
_MOST = 4

_STATUS = {
    ErrorCode.INVALID_OFFER: 400,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.PEER_GONE: 409,
    ErrorCode.SESSION_NOT_ACTIVE: 409,
    ErrorCode.RATE_LIMIT_EXCEEDED: 429,
}


class Reoffers:
    """Offers by number, at most four at a time; another one is refused."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[str]] = {}
        self._asked = 0

    async def ask(self, offer: Callable[[int], None]) -> str:
        """Make an offer under the number that it is given, and wait for the answer to it. Raises ApiError."""
        if len(self._waiting) >= _MOST:
            raise _refusal(ReofferRefused(0, ErrorCode.RATE_LIMIT_EXCEEDED, "Too many offers at a time.", 1))
        self._asked = number = self._asked + 1
        answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answered
        try:
            offer(number)
            return await answered
        finally:
            del self._waiting[number]

    def on_fact(self, fact: ReofferFact) -> None:
        """Hand an answer to whoever waits for it, and may have gone away."""
        answered = self._waiting.get(fact.number)
        if answered is None or answered.done():
            return
        if isinstance(fact, Reanswered):
            answered.set_result(fact.answer)
        else:
            answered.set_exception(_refusal(fact))

    def end(self) -> None:
        """The session is over: nobody is answered any more."""
        for answered in self._waiting.values():
            if not answered.done():
                answered.set_exception(no_such_call())


def no_such_call() -> ApiError:
    """The one answer to whoever asks for a session that is unknown, somebody else's or over."""
    return ApiError(404, ErrorCode.NOT_FOUND, "There is no such call.")


def _refusal(refused: ReofferRefused) -> ApiError:
    code, seconds = refused.code, refused.retry_seconds
    if code is ErrorCode.NOT_FOUND:
        return no_such_call()
    wait = {} if seconds is None else {"retry-after": str(seconds), "retry-after-ms": str(seconds * 1000)}
    param = "sdp" if code is ErrorCode.INVALID_OFFER else None
    return ApiError(_STATUS[code], code, refused.message, param=param, headers=wait)
