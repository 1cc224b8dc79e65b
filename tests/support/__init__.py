"""Real parts for tests: a relay in this process with a stand-in service behind it, and a client that is not ours."""
