"""Paths of 1280 bytes, on both legs, carry sound and large events, whether senders of larger ones are told or not."""

from __future__ import annotations

import pytest

from network.packet import Kind
from network.programs import until
from network.test_reach import shape, talked

pytestmark = [pytest.mark.network, pytest.mark.timeout(90)]

TEXT = "x" * 16_000


@pytest.mark.parametrize("name", ["mtu-black-hole", "mtu-told"])
async def test_1280_bytes_and_a_large_event_each_way(lab, name):
    async with shape(lab, name) as (there, call):
        await call.start()
        await talked(there, call)
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": TEXT}]}
        await call.send({"type": "conversation.item.create", "item": item})
        await until(lambda: _has_arrived(there.service.session()["client_events"]), "the large event at the service")
        there.service.say(
            {
                "type": "response.output_audio_transcript.delta",
                "delta": TEXT,
                "response_id": "resp_1",
                "item_id": "item_1",
            }
        )
        find = "(size) => call.events.some((each) => each.delta?.length === size)"
        await call.page.wait_for_function(find, arg=len(TEXT), timeout=10_000, polling=50)
        # Signalling may try and be told; nothing of a leg is ever too big.
        for way in there.lab.seen()["relay"].values():
            assert {name for name in way.counts if name.startswith("too_big")} <= {f"too_big:{Kind.TCP}"}


def _has_arrived(events):
    return any(
        event["type"] == "conversation.item.create"
        and (event.get("not_kept_bytes", 0) > len(TEXT) or event["item"]["content"][0]["text"] == TEXT)
        for event in events
    )
