"""TURN credentials that expire, in the form coturn checks with its shared secret (draft-uberti-behave-turn-rest-00)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field

_TAG = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class TurnCredential:
    """What a TURN client proves itself with until `expires_at`, in Unix seconds."""

    username: str
    password: str = field(repr=False)
    expires_at: int


def turn_credential(secret: str, tag: str, expires_at: int) -> TurnCredential:
    """Make the credential for `tag` (1 to 64 of `A-Z a-z 0-9 _ -`), good until `expires_at` in Unix seconds.

    The tag travels in the clear and stands in the TURN server's log: it must not tell who the user is. The server
    counts allocations by it (`user-quota`). Raises ValueError for another tag or a time before 1970.
    """
    if _TAG.match(tag) is None or expires_at < 0:
        raise ValueError("a TURN credential needs a plain tag and a time")
    # Section 2.2 of the draft: the time first, a colon, then whatever names the user.
    username = f"{expires_at}:{tag}"
    mac = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    return TurnCredential(username, base64.b64encode(mac).decode(), expires_at)
