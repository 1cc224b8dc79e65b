"""A stand-in for Azure OpenAI Realtime over WebRTC: real HTTP, real media, faults on demand.

A program of its own: nothing here imports the rest of `relay`, so that no mistake can be on both sides at once.
"""

from typing import TYPE_CHECKING, Any

from relay.simulator.settings import SimulatorSettings

if TYPE_CHECKING:
    from relay.simulator.simulator import Simulator

__all__ = ["Simulator", "SimulatorSettings"]


def __getattr__(name: str) -> Any:
    # Loaded when it is used: the command line reads the settings' defaults at every start, also of a real relay.
    if name == "Simulator":
        from relay.simulator.simulator import Simulator  # noqa: PLC0415

        return Simulator
    raise AttributeError(name)
