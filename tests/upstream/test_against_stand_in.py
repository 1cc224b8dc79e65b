"""The adapters against the stand-in for the service: real mints, real calls, its faults."""

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection

from relay.config import Secret
from relay.simulator import Simulator, SimulatorSettings
from relay.upstream import ServiceCall, ServiceError, ServiceRefusal

R = ServiceRefusal
INSTRUCTIONS = "Speak about trains only."


@pytest.fixture
async def stand_in():
    async with Simulator(SimulatorSettings()) as simulator:
        yield simulator


@pytest.fixture
async def offer():
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.addTransceiver("audio")
    peer.createDataChannel("oai-events")
    await peer.setLocalDescription(await peer.createOffer())
    yield peer.localDescription.sdp
    await peer.close()


@pytest.fixture
def connect_to(stand_in, connect):
    def connect_to(protocol, **changes):
        values = {
            "endpoint": stand_in.url,
            "webrtc_endpoint": stand_in.url,
            "api_key": Secret(stand_in.settings.api_key),
        }
        return connect(protocol, **(values | changes))

    return connect_to


def session(protocol, model="gpt-realtime"):
    flat = {"model": model, "instructions": INSTRUCTIONS}
    return flat if protocol == "azure-preview" else {"type": "realtime", **flat}


@pytest.mark.parametrize("protocol", ["azure-ga", "openai", "azure-preview"])
async def test_mint_call_and_hang_up(stand_in, connect_to, offer, protocol):
    upstream = connect_to(protocol)

    key = await upstream.mint(session(protocol))
    call = await upstream.call(key, offer, "gpt-realtime")

    assert key.session is not None
    assert key.session["instructions"] == INSTRUCTIONS
    assert "m=audio" in call.answer
    state = stand_in.state()
    assert state["calls"][0]["query"] == ({"model": "gpt-realtime"} if protocol == "azure-preview" else {})
    assert call.call_id == (None if protocol == "azure-preview" else state["calls"][0]["call_id"])
    assert key.request_id
    assert call.request_id

    await upstream.hang_up(call)
    assert stand_in.state()["calls"][0]["hung_up"] is (protocol != "azure-preview")


@pytest.mark.parametrize("protocol", ["azure-ga", "azure-preview"])
@pytest.mark.parametrize("operation", ["mint", "call"])
@pytest.mark.parametrize(
    "case",
    [
        ("401", R.UNAUTHORIZED),
        ("403", R.UNAUTHORIZED),
        ("404", R.NO_DEPLOYMENT),
        ("429", R.RATE_LIMITED),
        ("500", R.FAILED),
        ("503", R.FAILED),
        ("content_filter", R.CONTENT_FILTER),
        ("timeout", R.TIMEOUT),
        ("drop", R.UNREACHABLE),
        ("garbage", R.INVALID_ANSWER),
    ],
    ids=lambda case: case[0],
)
async def test_faults(stand_in, connect_to, protocol, operation, case):
    fault, refusal = case
    key = await connect_to(protocol).mint(session(protocol))
    upstream = connect_to(protocol, timeout_seconds=0.6 if fault == "timeout" else 5.0)
    stand_in.fault(**{operation: fault})
    with pytest.raises(ServiceError) as caught:
        await (
            upstream.mint(session(protocol)) if operation == "mint" else upstream.call(key, "v=0\r\n", "gpt-realtime")
        )
    assert (caught.value.refusal, caught.value.operation) == (refusal, operation)
    assert caught.value.retry_after_ms == (7500 if fault == "429" else None)


async def test_a_wrong_resource_key(connect_to):
    with pytest.raises(ServiceError) as caught:
        await connect_to("azure-ga", api_key=Secret("wrong-key")).mint(session("azure-ga"))
    assert caught.value.refusal is R.UNAUTHORIZED
    assert "wrong-key" not in str(caught.value)


@pytest.mark.parametrize("protocol", ["azure-ga", "azure-preview"])
async def test_a_deployment_that_does_not_exist(connect_to, protocol):
    with pytest.raises(ServiceError) as caught:
        await connect_to(protocol).mint(session(protocol, "no-such"))
    assert caught.value.refusal is R.NO_DEPLOYMENT


@pytest.mark.parametrize("bad", ["v=0\r\n", "nonsense"])
async def test_a_bad_offer(connect_to, bad):
    upstream = connect_to("azure-ga")
    with pytest.raises(ServiceError) as caught:
        await upstream.call(await upstream.mint(session("azure-ga")), bad, "gpt-realtime")
    assert (caught.value.refusal, caught.value.status) == (R.BAD_OFFER, 400)


async def test_an_unknown_session_field_is_named_but_not_its_value(connect_to):
    with pytest.raises(ServiceError) as caught:
        await connect_to("azure-ga").mint(session("azure-ga") | {"temprature": "secret words of the session"})
    assert caught.value.refusal is R.REJECTED
    assert "param=session.temprature" in caught.value.detail
    assert "secret words" not in str(caught.value)


async def test_hanging_up_what_is_not_there(connect_to):
    with pytest.raises(ServiceError) as caught:
        await connect_to("azure-ga").hang_up(ServiceCall("v=0", "rtc_unknown"))
    assert (caught.value.refusal, caught.value.status) == (R.REJECTED, 404)
