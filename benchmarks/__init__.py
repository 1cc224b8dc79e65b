"""Measurements of the relay: `python -m benchmarks` for the table, others beside it, each a program."""
