"""A cable between a worker and the kernel: everything that comes in goes out, unless it is cut.

    worker ──there──> Relay ──there──> kernel
           <──back───       <──back───

What is lost in a cut cable is sent again by TCP when that heals; so it is held here, and goes on then.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self

__all__ = ["Relay"]

_BYTES = 1 << 16


class Relay:
    """Listens on this host, and connects to the kernel's port for everybody who comes."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        #: Whether bytes go on, from the worker to the kernel and back.
        self._there, self._back = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        self.heal()
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closed = True
        self.heal()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.reset()
        for thread in self._threads:
            thread.join()

    def cut(self, *, there: bool = True, back: bool = True) -> None:
        """Let nothing through, on one way or on both."""
        if there:
            self._there.clear()
        if back:
            self._back.clear()

    def heal(self) -> None:
        """Let everything through again."""
        self._there.set()
        self._back.set()

    def reset(self) -> None:
        """End the connections that there are."""
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _start(self, function: object, *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                worker, _ = self._listening.accept()
            except OSError:
                return
            try:
                kernel = socket.create_connection(self._target)
            except OSError:  # it is not there now
                worker.close()
                continue
            with self._lock:
                self._connections |= {worker, kernel}
            if self._is_closed:
                self.reset()
            ends = threading.Semaphore(0)
            self._start(self._pass_on, worker, kernel, self._there, ends)
            self._start(self._pass_on, kernel, worker, self._back, ends)
            self._start(self._close, worker, kernel, ends)

    def _pass_on(
        self, source: socket.socket, target: socket.socket, gate: threading.Event, ends: threading.Semaphore
    ) -> None:
        try:
            while True:
                gate.wait()
                part = source.recv(_BYTES)
                gate.wait()
                if not part:
                    break
                target.sendall(part)
        except OSError:
            pass
        for connection in (source, target):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        ends.release()

    def _close(self, worker: socket.socket, kernel: socket.socket, ends: threading.Semaphore) -> None:
        for _ in range(2):
            ends.acquire()
        with self._lock:
            self._connections -= {worker, kernel}
        worker.close()
        kernel.close()
