"""The energy-based turn detector, on numbers alone."""

import numpy as np
import pytest

from relay.simulator.audio import FRAME, chirp, from_event_pcm, level_dbfs, milliseconds, to_event_pcm
from relay.simulator.listener import MAX_TURN_SECONDS, Listener, SpeechStarted, SpeechStopped

VAD = {"threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 200}


def silence(seconds):
    return np.zeros(int(48_000 * seconds), np.int16)


def turns(heard):
    return [one for one in heard if isinstance(one, SpeechStarted | SpeechStopped)]


def test_a_turn_has_prefix_and_closing_silence(voice):
    listener = Listener()
    heard = turns(listener.hear(np.concatenate([silence(1), voice(0.6), silence(1)]), VAD))
    started, stopped = heard
    assert 680 <= started.at_ms <= 760
    assert 1780 <= stopped.at_ms <= 1840
    assert 1000 <= milliseconds(stopped.speech) <= 1140
    assert level_dbfs(stopped.speech) > -30
    assert not listener.speaking


@pytest.mark.parametrize("chunk", [1, 441, FRAME, 5000])
def test_chunks_of_any_size_give_the_same_turn(voice, chunk):
    sound = np.concatenate([silence(0.2), voice(0.3), silence(0.4)])
    whole = turns(Listener().hear(sound, VAD))
    listener, parts = Listener(), []
    step = max(chunk, 1) if chunk != 1 else 97
    for start in range(0, len(sound), step):
        parts += turns(listener.hear(sound[start : start + step], VAD))
    assert [(type(t), t.at_ms) for t in parts] == [(type(t), t.at_ms) for t in whole]


def test_noise_below_the_threshold_and_clicks_are_no_speech():
    hiss = np.random.default_rng(3).normal(0, 100, 48_000).astype(np.int16)
    click = np.concatenate([silence(0.2), np.full(FRAME, 20_000, np.int16), silence(0.2)])
    assert turns(Listener().hear(np.concatenate([hiss, click]), VAD)) == []
    assert turns(Listener().hear(hiss, {**VAD, "threshold": 0.0})) != []


def test_endless_speech_is_cut(voice):
    listener = Listener()
    second = voice(1)
    heard = []
    for _ in range(MAX_TURN_SECONDS + 2):
        heard += turns(listener.hear(second, VAD))
    assert [type(one) for one in heard] == [SpeechStarted, SpeechStopped, SpeechStarted]
    assert milliseconds(heard[1].speech) == MAX_TURN_SECONDS * 1000


def test_without_detection_sound_is_collected_for_a_commit(voice):
    listener = Listener()
    assert listener.commit() is None
    assert turns(listener.hear(voice(0.5), None)) == []
    assert milliseconds(listener.commit()) == 500
    listener.hear(voice(0.5), None)
    listener.clear()
    assert listener.commit() is None


def test_event_audio_round_trip_and_its_errors():
    tone = chirp(0.1)
    assert len(from_event_pcm(to_event_pcm(tone))) == len(tone)
    assert abs(level_dbfs(from_event_pcm(to_event_pcm(tone))) - level_dbfs(tone)) < 1
    for bad in ("!", "YQ=="):
        with pytest.raises(ValueError, match=r"base64|sample"):
            from_event_pcm(bad)
