"""What becomes of an ssh that ends badly: a program that plays ssh, and whatever it leaves behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import jmr

pytestmark = pytest.mark.slow


def test_a_child_that_ssh_leaves_behind_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\nsleep 1000 <&- >&- &\necho $! >{tmp_path}/pid\necho 'no route to host' >&2\nexit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(jmr.WorkerError, match="there are no slots: no worker on h9: ssh says: no route to host"):
        with pytest.warns(UserWarning, match="no route to host"):
            jmr.Cluster(workers=0, ssh=["h9"])
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
