"""The session objects with which the service answers, whole, as recorded."""

from __future__ import annotations

from typing import Any


def ga_session(instructions: str) -> dict[str, Any]:
    """Azure GA's whole echo, recorded."""
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": "sess_upstream",
        "model": "contoso-rt",
        "output_modalities": ["audio"],
        "instructions": instructions,
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "expires_at": 4600,
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": {"model": "contoso-transcribe", "language": "tr", "prompt": "steer"},
                "noise_reduction": None,
                "turn_detection": {
                    "type": "server_vad",
                    "threshold": 0.5,
                    "prefix_padding_ms": 300,
                    "silence_duration_ms": 200,
                    "idle_timeout_ms": None,
                    "create_response": True,
                    "interrupt_response": True,
                },
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin", "speed": 1.0},
        },
        "include": None,
    }


def preview_session(instructions: str) -> dict[str, Any]:
    """The preview's whole echo, recorded."""
    return {
        "id": "sess_upstream",
        "object": "realtime.session",
        "expires_at": 4600,
        "input_audio_noise_reduction": None,
        "turn_detection": {"type": "server_vad", "threshold": 0.5, "create_response": True},
        "input_audio_format": "pcm16",
        "input_audio_transcription": None,
        "client_secret": None,
        "include": None,
        "model": "contoso-rt",
        "modalities": ["audio", "text"],
        "instructions": instructions,
        "voice": "verse",
        "output_audio_format": "pcm16",
        "tool_choice": "auto",
        "temperature": 0.8,
        "max_response_output_tokens": "inf",
        "tools": [],
    }
