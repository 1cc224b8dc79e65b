"""A network in namespaces, and the tests that need one: see docs/testing-network.md."""
