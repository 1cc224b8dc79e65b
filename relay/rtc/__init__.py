"""Sockets, legs and the bridge between them: the only package that imports aiortc, aioice and pylibsrtp."""
