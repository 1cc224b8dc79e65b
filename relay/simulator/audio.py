"""Sound as numbers: 48 kHz mono int16 inside, stereo frames from the decoder, 24 kHz PCM in events."""

from __future__ import annotations

import base64
import binascii
import math

import numpy as np
import numpy.typing as npt
from av import AudioFrame

RATE = 48_000
FRAME = 960
FRAME_MS = 20
SILENCE_DBFS = -120.0

Samples = npt.NDArray[np.int16]


def mono(frame: AudioFrame) -> Samples:
    """Average the decoder's interleaved stereo; mono comes out as it is."""
    samples = frame.to_ndarray().reshape(-1)
    if len(frame.layout.channels) == 1:
        return np.asarray(samples, dtype=np.int16)
    return np.asarray(samples.reshape(-1, 2).mean(axis=1), dtype=np.int16)


def level_dbfs(samples: Samples) -> float:
    """Root mean square in dB of full scale; SILENCE_DBFS for digital silence."""
    if not len(samples):
        return SILENCE_DBFS
    power = float(np.mean(np.square(samples.astype(np.float64))))
    return 10 * math.log10(power / 32768**2) if power > 0 else SILENCE_DBFS


def chirp(seconds: float = 0.9) -> Samples:
    """Make a soft rising tone with a gentle start and end: what the service says when it has nothing to repeat."""
    t = np.arange(int(RATE * seconds)) / RATE
    phase = 2 * np.pi * (320 * t + 120 * t * t)
    envelope = np.minimum(1, np.minimum(t, seconds - t) / 0.05)
    return (np.sin(phase) * envelope * 9000).astype(np.int16)


def to_event_pcm(samples: Samples) -> str:
    """Base64 of 24 kHz little-endian PCM, as events carry audio."""
    halved = samples[: len(samples) // 2 * 2].reshape(-1, 2).mean(axis=1)
    return base64.b64encode(halved.astype("<i2").tobytes()).decode()


def from_event_pcm(text: str) -> Samples:
    """Read what events carry. Raises ValueError when it is no base64 of whole samples."""
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    if len(raw) % 2:
        raise ValueError("half a sample")
    return np.repeat(np.frombuffer(raw, dtype="<i2").astype(np.int16), 2)


def milliseconds(samples: Samples) -> int:
    """Return the length in ms, rounded down."""
    return len(samples) * 1000 // RATE
