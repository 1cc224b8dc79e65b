"""The browser-facing doors, the talk page and the operations listener: the only users of aiohttp's server."""

from relay.api.applications import DoorSettings, create_operations_app, create_public_app
from relay.api.drain import DrainDoor
from relay.api.listener import Listener
from relay.api.pages import CONSOLE, SignIn, load_pages, web_directory
from relay.api.telemetry_port import DoorTelemetry
from relay.api.tls import Certificate

__all__ = [
    "CONSOLE",
    "Certificate",
    "DoorSettings",
    "DoorTelemetry",
    "DrainDoor",
    "Listener",
    "SignIn",
    "create_operations_app",
    "create_public_app",
    "load_pages",
    "web_directory",
]
