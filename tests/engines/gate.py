"""Where user code waits in whatever process it runs in, until the test lets it go on.

worker: wait_at(port) ──connects──> Gate.reached is set ... Gate.open() ──> goes on
"""

from __future__ import annotations

import contextlib
import socket
import threading

__all__ = ["Gate", "wait_at"]


def wait_at(port: int) -> None:
    """Say that somebody is here, and wait until the gate is open; one that is open lets everybody pass."""
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"x")  # an interrupt that this leads to finds a connection that will be closed
        connection.recv(1)


class Gate:
    """Shut until `open`."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        #: Somebody waits.
        self.reached = threading.Event()
        self._waiting: list[socket.socket] = []
        self._thread = threading.Thread(target=self._welcome, name="gate")
        self._thread.start()

    def open(self) -> None:
        """Let all go on who wait, and who will come."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        while self._waiting:
            self._waiting.pop().close()

    def _welcome(self) -> None:
        with contextlib.suppress(OSError):  # it is open
            while True:
                self._waiting.append(self._listener.accept()[0])
                if self._waiting[-1].recv(1):
                    self.reached.set()
