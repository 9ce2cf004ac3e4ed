"""Ports for servers of the tests' own."""

from __future__ import annotations

import socket

__all__ = ["free_port"]


def free_port() -> int:
    """One of this host's own that nobody listens at, for now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
