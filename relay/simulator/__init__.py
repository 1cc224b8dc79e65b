"""A stand-in for Azure OpenAI Realtime over WebRTC: real HTTP, real media, faults on demand.

A program of its own: nothing here imports the rest of `relay`, so that no mistake can be on both sides at once.
"""

from relay.simulator.settings import SimulatorSettings
from relay.simulator.simulator import Simulator

__all__ = ["Simulator", "SimulatorSettings"]
