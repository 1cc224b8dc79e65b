"""A whole session with a stock aiortc client: speech there and back, client events, interruption, expiry."""

import json

import pytest

FUNCTION = {
    "type": "function",
    "name": "get_weather",
    "description": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
}
ECHO_FIELDS = [
    "type",
    "object",
    "id",
    "model",
    "output_modalities",
    "instructions",
    "tools",
    "tool_choice",
    "max_output_tokens",
    "tracing",
    "truncation",
    "prompt",
    "expires_at",
    "audio",
    "include",
]
PREVIEW_ECHO_FIELDS = [
    "id",
    "object",
    "expires_at",
    "input_audio_noise_reduction",
    "turn_detection",
    "input_audio_format",
    "input_audio_transcription",
    "client_secret",
    "include",
    "model",
    "modalities",
    "instructions",
    "voice",
    "output_audio_format",
    "tool_choice",
    "temperature",
    "max_response_output_tokens",
    "tools",
]


def ga(**session):
    return {"session": {"type": "realtime", "model": "gpt-realtime", **session}}


def update(**session):
    return {"type": "session.update", "event_id": "mine", "session": {"type": "realtime", **session}}


def user_says(text):
    content = [{"type": "input_text", "text": text}]
    return {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}}


def in_order(types, *wanted):
    """`wanted` is a subsequence of `types`."""
    rest = iter(types)
    return all(one in rest for one in wanted)


async def test_spoken_turn_is_heard_transcribed_and_spoken_back(simulate, connect, voice):
    simulator = await simulate()
    audio = {"input": {"transcription": {"model": "transcribe"}}}
    client = await connect(simulator, mint=ga(instructions="be kind", audio=audio))
    created = await client.event("session.created")
    assert list(created["session"]) == ECHO_FIELDS
    assert created["session"]["instructions"] == "be kind"
    client.microphone.say(voice(0.9))
    await client.event("output_audio_buffer.stopped")
    assert in_order(
        client.types(),
        "session.created",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.completed",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "output_audio_buffer.started",
        "response.output_audio_transcript.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
        "output_audio_buffer.stopped",
    )
    assert "response.output_audio.delta" not in client.types()
    transcript = (await client.event("conversation.item.input_audio_transcription.completed"))["transcript"]
    assert transcript.endswith("seconds of speech)")
    done = (await client.event("response.done"))["response"]
    assert done["status"] == "completed"
    assert done["usage"]["output_token_details"]["audio_tokens"] > 0
    assert max(client.levels) > -30
    heard = simulator.state()["sessions"][0]
    assert heard["heard"]["voiced_frames"] > 30
    assert heard["rtp"]["packets_received"] > 40
    assert heard["rtp"]["packets_sent"] > 40


async def test_speech_during_an_answer_interrupts_it(simulate, connect, voice):
    simulator = await simulate()
    client = await connect(simulator)
    client.microphone.say(voice(1.5))
    await client.event("output_audio_buffer.started")
    client.microphone.say(voice(0.5))
    cleared = await client.event("output_audio_buffer.cleared")
    done = (await client.event("response.done"))["response"]
    assert (done["id"], done["status"]) == (cleared["response_id"], "cancelled")
    assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    truncated = await client.event("conversation.item.truncated")
    assert 0 < truncated["audio_end_ms"] < 2500
    assert in_order(client.types(), "conversation.item.truncated", "output_audio_buffer.cleared", "response.done")
    second = await client.event("response.created", after=client.types().index("response.done"))
    assert second["response"]["id"] != done["id"]


async def test_response_to_text_sounds_and_a_second_one_meanwhile_is_refused(simulate, connect):
    simulator = await simulate()
    client = await connect(simulator)
    client.send(user_says("good morning"))
    client.send({"type": "response.create", "response": {"metadata": {"turn": "1"}}})
    client.send({"type": "response.create", "event_id": "second"})
    error = (await client.event("error"))["error"]
    assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", "second")
    done = await client.event("response.done")
    assert done["response"]["metadata"] == {"turn": "1"}
    assert "good morning" in done["response"]["output"][0]["content"][0]["transcript"]
    await client.event("output_audio_buffer.stopped")
    await client.until(lambda: max(client.levels) > -30, "sound")


async def test_cancel_and_clear_stop_an_answer(simulate, connect):
    simulator = await simulate()
    client = await connect(simulator)
    client.send({"type": "response.create"})
    await client.event("output_audio_buffer.started")
    client.send({"type": "response.cancel"})
    client.send({"type": "output_audio_buffer.clear"})
    done = (await client.event("response.done"))["response"]
    assert done["status_details"]["reason"] == "client_cancelled"
    await client.event("output_audio_buffer.cleared")
    client.send({"type": "response.cancel", "event_id": "late"})
    assert (await client.event("error"))["error"]["code"] == "response_cancel_not_active"
    client.send({"type": "response.create"})
    created = await client.event("response.created", after=client.types().index("error"))
    assert created["response"]["status"] == "in_progress"


async def test_text_and_out_of_band_responses(simulate, connect):
    simulator = await simulate()
    client = await connect(simulator)
    text = {"output_modalities": ["text"], "conversation": "none"}
    message = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "aside"}]}
    client.send({"type": "response.create"})
    client.send({"type": "response.create", "response": {**text, "input": [message]}})
    done = await client.event("response.output_text.done")
    assert "aside" in done["text"]
    finished = await client.event("response.done")
    assert finished["response"]["conversation_id"] is None
    assert "error" not in client.types()


async def test_function_call_and_its_result(simulate, connect):
    simulator = await simulate()
    client = await connect(simulator, mint=ga(tools=[FUNCTION], output_modalities=["text"]))
    client.send(user_says("please call get_weather now"))
    client.send({"type": "response.create"})
    arguments = await client.event("response.function_call_arguments.done")
    assert json.loads(arguments["arguments"]) == {"city": "example", "days": 1}
    deltas = [e["delta"] for e in client.events if e["type"] == "response.function_call_arguments.delta"]
    assert "".join(deltas) == arguments["arguments"]
    await client.event("response.done")
    seen = len(client.events)
    result = {"type": "function_call_output", "call_id": arguments["call_id"], "output": "sunny"}
    client.send({"type": "conversation.item.create", "item": result})
    client.send({"type": "response.create"})
    answer = await client.event("response.output_text.done", after=seen)
    assert "sunny" in answer["text"]


async def test_session_update_is_echoed_whole_and_refused_whole(simulate, connect):
    simulator = await simulate()
    client = await connect(simulator)
    client.send(update(instructions="new", audio={"input": {"turn_detection": None}}))
    updated = (await client.event("session.updated"))["session"]
    assert list(updated) == ECHO_FIELDS
    assert updated["instructions"] == "new"
    assert updated["audio"]["input"]["turn_detection"] is None
    client.send(update(instructions="newer", temperature=0.8))
    error = (await client.event("error"))["error"]
    assert (error["code"], error["param"], error["event_id"]) == ("unknown_parameter", "session.temperature", "mine")
    assert simulator.state()["sessions"][0]["session"]["instructions"] == "new"
    assert [e["session"].get("instructions") for e in simulator.state()["sessions"][0]["client_events"]] == [
        "new",
        "newer",
    ]


async def test_voice_cannot_change_after_audio(simulate, connect):
    simulator = await simulate()
    client = await connect(simulator)
    client.send(update(audio={"output": {"voice": "ash"}}))
    assert (await client.event("session.updated"))["session"]["audio"]["output"]["voice"] == "ash"
    client.send({"type": "response.create"})
    await client.event("output_audio_buffer.started")
    client.send(update(instructions="x", audio={"output": {"voice": "verse"}}))
    assert (await client.event("error"))["error"]["code"] == "cannot_update_voice"


async def test_items_are_retrieved_truncated_and_deleted(simulate, connect):
    simulator = await simulate()
    client = await connect(simulator)
    client.send(user_says("one"))
    item_id = (await client.event("conversation.item.done"))["item"]["id"]
    client.send({"type": "conversation.item.retrieve", "item_id": item_id})
    assert (await client.event("conversation.item.retrieved"))["item"]["content"][0]["text"] == "one"
    client.send({"type": "conversation.item.truncate", "item_id": item_id, "content_index": 0, "audio_end_ms": 0})
    assert (await client.event("error"))["error"]["code"] == "invalid_value"
    client.send({"type": "conversation.item.delete", "item_id": item_id})
    await client.event("conversation.item.deleted")
    seen = len(client.events)
    client.send({"type": "conversation.item.retrieve", "item_id": item_id, "event_id": "gone"})
    error = (await client.event("error", after=seen))["error"]
    assert (error["code"], error["event_id"]) == ("item_not_found", "gone")


async def test_push_to_talk_by_commit(simulate, connect, voice):
    simulator = await simulate()
    client = await connect(simulator, mint=ga(audio={"input": {"turn_detection": None}}))
    client.send({"type": "input_audio_buffer.clear"})
    await client.event("input_audio_buffer.cleared")
    client.microphone.say(voice(0.4))
    await simulator.until(lambda s: s["sessions"][0]["heard"]["voiced_frames"] > 15)
    client.send({"type": "input_audio_buffer.commit"})
    committed = await client.event("input_audio_buffer.committed")
    client.send({"type": "response.create"})
    delta = await client.event("response.output_audio_transcript.done")
    assert "You spoke" in delta["transcript"]
    client.send({"type": "conversation.item.retrieve", "item_id": committed["item_id"]})
    item = (await client.event("conversation.item.retrieved"))["item"]
    assert len(item["content"][0]["audio"]) > 10_000


async def test_transcription_by_an_unknown_deployment_fails_each_turn(simulate, connect, voice):
    simulator = await simulate()
    audio = {"input": {"transcription": {"model": "whisper-1"}}}
    client = await connect(simulator, mint=ga(audio=audio))
    client.microphone.say(voice(0.4))
    failed = await client.event("conversation.item.input_audio_transcription.failed")
    assert failed["error"]["code"] == "DeploymentNotFound"
    await client.event("response.created")


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ({"type": "session.instructions.append", "event_id": "e1"}, "invalid_value", "type"),
        ({"event_id": "e1"}, "missing_required_parameter", "type"),
        ({"type": "input_audio_buffer.commit", "event_id": "e1", "extra": 1}, "unknown_parameter", "extra"),
        (
            {"type": "response.cancel", "event_id": "e1", "response_id": "resp_x"},
            "response_cancel_not_active",
            "response_id",
        ),
        (
            {"type": "response.create", "event_id": "e1", "response": {"model": "x"}},
            "unknown_parameter",
            "response.model",
        ),
        ({"type": "input_audio_buffer.append", "event_id": "e1", "audio": "!"}, "invalid_value", "audio"),
        ({"type": "session.update", "event_id": "e1", "session": {}}, "missing_required_parameter", "session.type"),
        (
            {"type": "session.update", "event_id": "e1", "session": {"type": "realtime", "model": "other"}},
            "invalid_value",
            "session.model",
        ),
    ],
)
async def test_refused_events_carry_the_clients_event_id(simulate, connect, message, code, param):
    simulator = await simulate()
    client = await connect(simulator)
    client.send(message)
    error = (await client.event("error"))["error"]
    assert (error["code"], error["param"], error["event_id"]) == (code, param, "e1")


async def test_what_is_no_json_object_is_an_invalid_event(simulate, connect):
    simulator = await simulate()
    client = await connect(simulator)
    client.send("[1")
    assert (await client.event("error"))["error"]["code"] == "invalid_event"
    client.channel.send(b"bytes")
    await simulator.until(lambda s: s["sessions"][0]["binary_messages"] == 1)


async def test_preview_session_speaks_the_preview_dialect(simulate, connect, voice):
    simulator = await simulate()
    client = await connect(simulator, preview=True)
    assert list((await client.event("session.created"))["session"]) == PREVIEW_ECHO_FIELDS
    client.send({"type": "session.update", "session": {"instructions": "flat", "voice": "ash"}})
    updated = (await client.event("session.updated"))["session"]
    assert (updated["instructions"], updated["voice"]) == ("flat", "ash")
    client.send(update(instructions="nested"))
    error = (await client.event("error"))["error"]
    assert error["message"] == "Unknown parameter: 'session.type'."
    client.microphone.say(voice(0.4))
    await client.event("output_audio_buffer.stopped")
    types = client.types()
    assert in_order(types, "conversation.item.created", "response.audio_transcript.delta", "response.audio.done")
    assert not [kind for kind in types if "output_audio." in kind or kind.startswith("conversation.item.added")]
    done = (await client.event("response.done"))["response"]
    assert done["modalities"] == ["audio", "text"]
    assert done["output"][0]["content"][0]["type"] == "audio"


async def test_webrtcfilter_lets_its_list_through_and_nothing_else(simulate, connect):
    simulator = await simulate()
    client = await connect(simulator, query="?webrtcfilter=on")
    client.send({"type": "response.create"})
    await client.event("output_audio_buffer.stopped")
    assert set(client.types()) == {
        "conversation.item.added",
        "output_audio_buffer.started",
        "output_audio_buffer.stopped",
        "response.output_audio_transcript.delta",
        "response.output_audio_transcript.done",
    }


async def test_session_expires_with_an_error_and_then_is_gone(simulate, connect):
    simulator = await simulate(session_seconds=0.4)
    client = await connect(simulator)
    assert (await client.event("error"))["error"]["code"] == "session_expired"
    await client.until(lambda: client.channel.readyState == "closed", "closed channel")
    state = await simulator.until(lambda s: s["sessions"][0]["state"] == "closed")
    assert state["sessions"][0]["end"] == "expired"


async def test_client_that_leaves_ends_the_session(simulate, connect):
    simulator = await simulate()
    client = await connect(simulator)
    await client.close()
    state = await simulator.until(lambda s: s["sessions"][0]["state"] == "closed")
    assert state["sessions"][0]["end"] == "peer_left"


async def test_say_sends_any_event(simulate, connect, http):
    simulator = await simulate()
    client = await connect(simulator)
    await simulator.say({"type": "made.up", "n": 1})
    assert (await client.event("made.up"))["n"] == 1
    session_id = simulator.state()["sessions"][0]["id"]
    async with http.post(
        simulator.url + "/_say", json={"event": {"type": "again"}, "session_id": session_id}
    ) as answer:
        assert answer.status == 200
    await client.event("again")
    with pytest.raises(LookupError):
        await simulator.say({"type": "x"}, "sess_none")


async def test_a_session_without_a_data_channel_still_hears_and_speaks(simulate, connect, voice):
    simulator = await simulate()
    client = await connect(simulator, data=False, wait_open=False)
    await simulator.until(lambda s: s["sessions"][0]["state"] == "connected")
    client.microphone.say(voice(0.5))
    await client.until(lambda: client.levels and max(client.levels) > -30, "sound")
    assert client.messages == []


async def test_state_over_http_is_json(simulate, connect, http):
    simulator = await simulate()
    await connect(simulator)
    async with http.get(simulator.url + "/_state") as response:
        state = await response.json()
    assert set(state) == {"mints", "calls", "sessions", "faults"}
    assert state["calls"][0]["answer"].startswith("v=0")
    assert "authorization" in state["calls"][0]["headers"]


async def test_until_says_what_it_saw(simulate):
    simulator = await simulate()
    with pytest.raises(TimeoutError, match="mints"):
        await simulator.until(lambda s: s["mints"], timeout=0.01)
