"""Functions of jobs are written in order, in a thread, while the loop goes on."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from jmr.launch.keeping import Keeping
from jmr.links.link import Link
from jmr.shuffle.directory import Directories
from jmr.wire.far import Keep, Kept
from jmr.wire.handshake import Handshake
from jmr.wire.messages import Message


class Sink(Link):
    """Keeps what is sent."""

    def __init__(self) -> None:
        super().__init__(lambda _: Handshake(iter(())), lambda *_: None, lambda: None)  # type: ignore[arg-type]
        self.sent: asyncio.Queue[Message] = asyncio.Queue()

    def send(self, message: Message, stream: int = 0) -> None:
        self.sent.put_nowait(message)


def test_the_loop_goes_on_while_a_disk_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JMR_TMP", str(tmp_path))
    began, may_write = threading.Event(), threading.Event()

    def check_room(directory: str, n_bytes: int) -> None:
        began.set()
        assert may_write.wait(10)

    monkeypatch.setattr("jmr.shuffle.arriving.check_room", check_room)

    async def script() -> bytes:
        link, directories = Sink(), Directories()
        keeping = Keeping(link, directories)
        for piece in (b"ab", b"cd", b"ef"):
            keeping.take(Keep(1, 6, False, blobs=[piece]))
        began.wait(10)  # the thread is at the first, and the loop is here
        assert link.sent.empty()
        may_write.set()
        kept = await link.sent.get()
        assert isinstance(kept, Kept)
        whole = Path(kept.path).read_bytes()
        await asyncio.to_thread(keeping.close)
        directories.close()
        return whole

    assert asyncio.run(script()) == b"abcdef"
