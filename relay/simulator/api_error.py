"""The service's HTTP errors, in the one shape OpenAI-style clients read."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ApiError(Exception):
    """A refusal. `body()` is `{"error": {message, type, param, code}}`."""

    status: int
    code: str
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, object]:
        """Return the JSON body."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error}


def bad_key(*, azure: bool) -> ApiError:
    """Wrong or absent credential at a mint."""
    if azure:
        text = "Access denied due to invalid subscription key or wrong API endpoint."
        return ApiError(401, "401", text)
    return ApiError(401, "invalid_api_key", "Incorrect API key provided.")


def needs_ephemeral_key() -> ApiError:
    """Refuse a resource key or Entra token at a call; the text is the service's own."""
    return ApiError(401, "401", "This operation requires ephemeral tokens for authentication.")


def dead_key(reason: str) -> ApiError:
    """Refuse an ephemeral key that is unknown, expired or used."""
    return ApiError(401, "invalid_api_key", f"The ephemeral token is {reason}.")


def no_deployment() -> ApiError:
    """Refuse a model name that is no deployment."""
    text = "The API deployment for this resource does not exist."
    return ApiError(404, "DeploymentNotFound", text)


def bad_offer() -> ApiError:
    """Refuse an offer that cannot be used; the text is the service's own."""
    text = "Invalid SDP offer. Please try again with a WHIP-compliant offer."
    return ApiError(400, "invalid_offer", text)


def offer_without_audio() -> ApiError:
    """Refuse an offer without sound; the text is the service's own."""
    return ApiError(400, "invalid_offer", "Offer did not have an audio media section.")


def too_many(seconds: float, code: str = "429") -> ApiError:
    """Rate limited; says when to come back in seconds and in milliseconds."""
    headers = {"retry-after": str(max(1, round(seconds))), "retry-after-ms": str(round(seconds * 1000))}
    text = "Requests have exceeded the call rate limit of your current pricing tier."
    return ApiError(429, code, text, type="rate_limit_error", headers=headers)
