"""The listener's certificate, taken up again when its files change."""

from __future__ import annotations

import ssl
from enum import Enum, auto
from pathlib import Path
from typing import NoReturn

from cryptography import x509

from relay.errors import ConfigError


class Reload(Enum):
    """What a look at the files led to."""

    UNCHANGED = auto()
    LOADED = auto()
    FAILED = auto()


class Certificate:
    """A certificate chain and its key, PEM files. Raises ConfigError when they cannot be used at the start.

    Later on a pair that cannot be used (written half, not matching yet) leaves the one in force alone. `expires_at` is
    when the first of the chain ends, in Unix seconds.
    """

    def __init__(self, cert_file: str, key_file: str) -> None:
        self._cert_file = cert_file
        self._key_file = key_file
        try:
            self._seen = self._signature()
            self.context = self._load()
            self.expires_at = self._end()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"the TLS certificate {cert_file} with key {key_file} cannot be used: {reason}") from None

    def reload_if_changed(self) -> Reload:
        """Look at the files; new handshakes get what they hold now. A failure is told once per change."""
        try:
            found = self._signature()
        except OSError:
            found = ()
        if found == self._seen:
            return Reload.UNCHANGED
        self._seen = found
        try:
            # A pair that does not match would leave a live context without a key: tried on a new one first.
            self._load()
            self.context.load_cert_chain(self._cert_file, self._key_file, _no_passphrase)
            self.expires_at = self._end()
        except (OSError, ValueError):
            return Reload.FAILED
        return Reload.LOADED

    def _signature(self) -> tuple[tuple[int, int, int], ...]:
        stats = [Path(name).stat() for name in (self._cert_file, self._key_file)]
        return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)

    def _end(self) -> float:
        chain = x509.load_pem_x509_certificates(Path(self._cert_file).read_bytes())
        return min(each.not_valid_after_utc for each in chain).timestamp()

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self._cert_file, self._key_file, _no_passphrase)
        return context


def _no_passphrase() -> NoReturn:
    # Without this OpenSSL would ask on the terminal, and wait.
    raise ValueError("the key is encrypted; give one without a passphrase")
