"""Everything that decides: values in, values out. No await, clock, randomness, log, socket or third-party I/O."""
