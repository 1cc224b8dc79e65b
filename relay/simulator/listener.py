"""The service's ear: finds turns of speech in a stream of samples by their energy. Knows no clock and no loop."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from relay.simulator.audio import FRAME, FRAME_MS, Samples, level_dbfs, milliseconds

START_FRAMES = 3
SEMANTIC_SILENCE_MS = 500
MAX_TURN_SECONDS = 60
_MAX_FRAMES = MAX_TURN_SECONDS * 1000 // FRAME_MS


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """`at_ms` counts audio heard since the session began, less the prefix."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The turn's sound, prefix and closing silence included."""

    at_ms: int
    speech: Samples


@dataclass(frozen=True, slots=True)
class Frame:
    """One 20 ms frame measured."""

    dbfs: float
    voiced: bool


Heard = SpeechStarted | SpeechStopped | Frame


class Listener:
    """Feed it samples of any length; it answers with frames and turns.

    A turn is cut after MAX_TURN_SECONDS; with turn detection off, the last MAX_TURN_SECONDS are kept for a commit.
    """

    def __init__(self) -> None:
        self._rest: Samples = np.zeros(0, np.int16)
        self._clock_ms = 0
        self._loud = 0
        self._quiet = 0
        self._speaking = False
        self._buffer: deque[Samples] = deque(maxlen=_MAX_FRAMES)

    @property
    def speaking(self) -> bool:
        """Tell whether a turn has begun and not ended."""
        return self._speaking

    def hear(self, samples: Samples, detection: dict[str, Any] | None) -> list[Heard]:
        """Take sound; `detection` is the session's `turn_detection`, None only collects."""
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) // FRAME * FRAME
        self._rest = joined[whole:]
        heard: list[Heard] = []
        for start in range(0, whole, FRAME):
            heard += self._frame(joined[start : start + FRAME], detection)
        return heard

    def commit(self) -> Samples | None:
        """Take what was collected by hand; None when that is nothing."""
        taken = self._take()
        return taken if len(taken) else None

    def clear(self) -> None:
        """Forget what was collected."""
        self._take()

    def _frame(self, frame: Samples, detection: dict[str, Any] | None) -> list[Heard]:
        self._clock_ms += FRAME_MS
        self._buffer.append(frame)
        level = level_dbfs(frame)
        voiced = level > _threshold_dbfs(detection)
        heard: list[Heard] = [Frame(level, voiced)]
        if detection is None:
            return heard
        self._loud = self._loud + 1 if voiced else 0
        self._quiet = 0 if voiced else self._quiet + 1
        if not self._speaking:
            heard += self._maybe_start(int(detection.get("prefix_padding_ms", 300)))
        elif self._is_over(detection):
            speech = self._take()
            heard.append(SpeechStopped(self._clock_ms, speech))
        return heard

    def _maybe_start(self, prefix_ms: int) -> list[Heard]:
        kept = min(_MAX_FRAMES, prefix_ms // FRAME_MS + START_FRAMES)
        while len(self._buffer) > kept:
            self._buffer.popleft()
        if self._loud < START_FRAMES:
            return []
        self._speaking = True
        return [SpeechStarted(max(0, self._clock_ms - len(self._buffer) * FRAME_MS))]

    def _is_over(self, detection: dict[str, Any]) -> bool:
        silence = int(detection.get("silence_duration_ms", SEMANTIC_SILENCE_MS))
        return self._quiet * FRAME_MS >= max(FRAME_MS, silence) or len(self._buffer) == _MAX_FRAMES

    def _take(self) -> Samples:
        taken = np.concatenate(self._buffer) if self._buffer else np.zeros(0, np.int16)
        self._buffer.clear()
        self._speaking = False
        self._loud = self._quiet = 0
        return taken


def seconds_of(speech: Samples) -> float:
    """Return the length in seconds, to a tenth."""
    return round(milliseconds(speech) / 1000, 1)


def _threshold_dbfs(detection: dict[str, Any] | None) -> float:
    """0.5, the default, is -40 dBFS; 0 is -60 and 1 is -20."""
    threshold = 0.5 if detection is None else float(detection.get("threshold", 0.5))
    return -60 + 40 * threshold
