"""Paths of session fields as policies name them, and what can be said of each."""

from __future__ import annotations

OPEN_FIELDS = (
    "audio.input.noise_reduction",
    "audio.input.transcription",
    "audio.input.turn_detection",
    "audio.output.speed",
    "audio.output.voice",
    "include",
    "max_output_tokens",
    "output_modalities",
    "parallel_tool_calls",
    "tool_choice",
)
"""Session fields that a client may set when no rule says otherwise; each is checked for form."""

CLOSED_FIELDS = ("reasoning", "truncation")
"""Session fields that a client may set only where a rule names them."""

LOCK_ONLY_FIELDS = ("tracing",)
"""Session fields that the administrator may lock and no rule can give to a client."""

FORBIDDEN_FIELDS = {
    "audio.input.format": "WebRTC settles it",
    "audio.output.format": "WebRTC settles it",
    "client_secret": "it is the relay's credential",
    "expires_at": "the service decides it",
    "id": "the relay and the service decide it",
    "instructions": "use spec.instructions",
    "model": "use spec.upstream",
    "object": "it never varies",
    "prompt": "a stored prompt brings instructions of its own",
    "tools": "use spec.tools",
    "type": "the relay serves realtime sessions only",
}
"""Session fields that no rule can give to a client, and why."""

INNER_FIELDS = (
    "audio.input.noise_reduction.type",
    "audio.input.transcription.language",
    "audio.input.turn_detection.create_response",
    "audio.input.turn_detection.eagerness",
    "audio.input.turn_detection.idle_timeout_ms",
    "audio.input.turn_detection.interrupt_response",
    "audio.input.turn_detection.prefix_padding_ms",
    "audio.input.turn_detection.silence_duration_ms",
    "audio.input.turn_detection.threshold",
    "audio.input.turn_detection.type",
)
"""Members of session fields that can have rules of their own."""

PREVIEW_FIELDS = {
    "input_audio_noise_reduction": "audio.input.noise_reduction",
    "input_audio_transcription": "audio.input.transcription",
    "max_response_output_tokens": "max_output_tokens",
    "modalities": "output_modalities",
    "speed": "audio.output.speed",
    "turn_detection": "audio.input.turn_detection",
    "voice": "audio.output.voice",
}
"""Names of the preview protocol → GA names."""

NUMBER_RANGES: dict[str, tuple[float, float, bool]] = {
    "audio.input.turn_detection.idle_timeout_ms": (5_000, 30_000, True),
    "audio.input.turn_detection.prefix_padding_ms": (0, 60_000, True),
    "audio.input.turn_detection.silence_duration_ms": (0, 60_000, True),
    "audio.input.turn_detection.threshold": (0, 1, False),
    "audio.output.speed": (0.25, 1.5, False),
    "max_output_tokens": (1, 4_096, True),
}
"""Session fields that take `min` and `max`: the lowest and highest number of the service, and whether a whole one."""
