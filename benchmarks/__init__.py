"""Measurements of the relay, each a program: `python -m benchmarks.forwarding`, `python -m benchmarks.events`."""
