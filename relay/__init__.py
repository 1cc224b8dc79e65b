"""A media-aware relay between browsers and Azure OpenAI's Realtime API (RFC 7092, RFC 7667)."""

__version__ = "0.1.0"
