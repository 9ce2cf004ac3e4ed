"""Letting workers of other hosts in: what is said, what listens, and who is told the token."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

import jmr
from jmr.engines import cluster as engines_cluster
from jmr.engines import reaching
from jmr.launch import certificate
from jmr.launch.address import Address
from jmr.launch.token import token_path
from jmr.wire.handshake import Identity
from tests.joiners import MAIN, Command
from tests.shells import ipython


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("JMR_TOKEN", raising=False)
    return tmp_path


@pytest.fixture
def ip(monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """A shell whose kernel has no cluster yet."""
    monkeypatch.setattr(engines_cluster, "_default", None)
    with ipython() as shell:
        yield shell
        shell.run_line_magic("jmr", "stop")


def listeners() -> dict[str, int]:
    """Addresses that this process listens at, as the kernel writes them, and how many sockets do."""
    ours = set()
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            ours.add(os.readlink(file))
    found: dict[str, int] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in map(str.split, Path(table).read_text().splitlines()[1:]):
            if row[3] == "0A" and f"socket:[{row[9]}]" in ours:
                found[row[1]] = found.get(row[1], 0) + 1
    return found


def as_kernel_writes(address: str) -> str:
    host, port = address.split(":")
    return f"{bytes(reversed(socket.inet_aton(host))).hex().upper()}:{int(port):04X}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def said(ip: InteractiveShell, line: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    ip.run_line_magic("jmr", line)
    return capsys.readouterr().out


def command_in(text: str) -> list[str]:
    """What somebody would paste."""
    (line,) = re.findall(r"^    (jmr-worker .*)$", text, re.MULTILINE)
    return line.split()[1:]


# What listens


@pytest.mark.slow
def test_nothing_listens_unless_asked_for_and_nothing_after_close() -> None:
    before = listeners()
    with jmr.Cluster(workers=1) as cluster:
        assert listeners() == before
        cluster.listen("127.0.0.1:0")
        assert listeners() == before | {as_kernel_writes(cluster.address): 1}
        cluster.listen(cluster.address)
        cluster.listen("127.0.0.1:0")
        assert listeners() == before | {as_kernel_writes(cluster.address): 1}
    assert listeners() == before


@pytest.mark.slow
def test_an_address_that_cannot_be_had_leaves_the_one_before() -> None:
    with jmr.Cluster(workers=0, listen="127.0.0.1:0") as cluster:
        address, there = cluster.address, listeners()
        with pytest.raises(jmr.WorkerError, match=r"192\.0\.2\.1 is no address of this host: write one that is"):
            cluster.listen("192.0.2.1:" + address.rpartition(":")[2])
        assert (cluster.address, listeners()) == (address, there)
        with Command(address, "--slots", 1, "--once") as worker:
            assert worker.line() == f"jmr-worker: joined {address} with 1 slot"


def test_a_token_that_cannot_be_made_leaves_the_address_and_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room() -> None:
        raise jmr.TokenError("no space left on device")

    monkeypatch.setattr(reaching, "new_token", no_room)
    with jmr.Cluster(workers=0, listen="127.0.0.1:0") as cluster:
        address, there = cluster.address, listeners()
        with pytest.raises(jmr.TokenError, match="no space left"):
            cluster.listen(address, new_token=True)
        assert (cluster.address, listeners()) == (address, there)


@pytest.mark.parametrize("listen", ["", "a..b", "junk:junk", "[::1", "ann@host", "http://10.0.0.5"])
def test_what_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(jmr.ArgumentValueError, match=r"listen: .* is no address"):
        jmr.Cluster(workers=0, listen=listen)


@pytest.mark.parametrize("listen", [18273, b"10.0.0.5", 0])
def test_what_is_no_text_is_refused(listen: object) -> None:
    with pytest.raises(jmr.ArgumentTypeError, match="listen must be an address, such as"):
        jmr.Cluster(workers=0, listen=listen)  # type: ignore[arg-type]


# %jmr listen


def test_listening_shows_what_to_paste_and_never_the_token(
    ip: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    where = f"127.0.0.1:{free_port()}"
    text = said(ip, f"listen {where}", capsys)
    assert text.startswith(f"Listening on {where}. In a terminal on this host:\n\n    jmr-worker {where}\n\n")
    assert str(token_path()) in text
    assert token_path().read_text().strip() not in text
    assert said(ip, f"listen {where}", capsys) == text
    assert said(ip, "status", capsys).endswith(f"\nlistening on {where}\n")
    assert as_kernel_writes(where) in listeners()
    said(ip, "stop", capsys)
    assert as_kernel_writes(where) not in listeners()


@pytest.mark.parametrize(
    ("address", "paste"),
    [
        (Address("10.0.0.5"), "10.0.0.5"),
        (Address("10.0.0.5", 4000), "10.0.0.5:4000"),
        (Address("fe80::1", 4000), "[fe80::1]:4000"),
        (Address("fe80::1"), "fe80::1"),
        (Address("0.0.0.0"), "ADDRESS (ADDRESS: of this host, as the others know it)"),
    ],
)
def test_what_is_shown_for_other_hosts(address: Address, paste: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from jmr.engines.view import invitation

    assert f"On each other host:\n\n    jmr-worker {paste}\n\n" in invitation(address)
    assert "copy that file" in invitation(address)
    monkeypatch.setenv("JMR_TOKEN", "ab" * 32)
    assert "JMR_TOKEN" in invitation(address)
    assert "ab" * 32 not in invitation(address)
    assert "/token" not in invitation(address)


def test_a_new_token_is_made_when_asked_for(
    ip: InteractiveShell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = f"127.0.0.1:{free_port()}"
    said(ip, f"listen {where}", capsys)
    first = token_path().read_text()
    said(ip, f"listen --new-token {where}", capsys)
    second = token_path().read_text()
    assert first != second
    with pytest.raises(jmr.WorkerError):
        said(ip, "listen 192.0.2.1 --new-token", capsys)
    assert token_path().read_text() == second
    monkeypatch.setenv("JMR_TOKEN", "ab" * 32)
    with pytest.raises(jmr.TokenError, match="the token is what JMR_TOKEN says: set that anew"):
        said(ip, f"listen --new-token {where}", capsys)


@pytest.mark.slow
def test_a_port_that_another_process_has_is_told_with_its_pid(
    ip: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    program = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], file=sys.stderr);"
        "sys.stdin.read()"
    )
    with Command(program=program, stdin=subprocess.PIPE) as other:
        port = int(other.line())
        with pytest.raises(jmr.WorkerError) as caught:
            said(ip, f"listen 127.0.0.1:{port}", capsys)
        other.process.stdin.close()
    assert str(caught.value).startswith(f"port {port} is taken by process {other.process.pid} (python")
    assert str(caught.value).endswith(f"or take another port, such as 127.0.0.1:{port + 1}")


def test_a_port_that_another_cluster_here_has_is_told_so(
    ip: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = jmr.Cluster(workers=0, listen="127.0.0.1:0")
    try:
        with pytest.raises(jmr.WorkerError, match=r"taken by this very process, another jmr\.Cluster say: close\(\)"):
            said(ip, f"listen {cluster.address}", capsys)
    finally:
        cluster.close()


@pytest.mark.parametrize("line", ["listen a b", "listen --new", "listen --new-token a b"])
def test_what_is_no_line_is_told(ip: InteractiveShell, line: str) -> None:
    with pytest.raises(UsageError, match="%jmr listen ADDRESS"):
        ip.run_line_magic("jmr", line)


@pytest.mark.slow
def test_a_remote_worker_is_shown(ip: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(ip, f"listen 127.0.0.1:{free_port()}", capsys)
    with Command(*command_in(text), "--slots", 2, "--once") as worker:
        worker.line()
        cluster = engines_cluster.default_cluster()
        assert cluster is not None
        jmr.run({i: i for i in range(8)}, lambda k, v: [(k, v)], progress=False)
        shown = said(ip, "", capsys)
        assert re.search(rf"^{socket.gethostname()} \(127\.0\.0\.1\) +2 ", shown, re.MULTILINE), shown
        assert shown.endswith(f"\nlistening on {cluster.address}\n")
        assert " and 2 on others, " in repr(cluster)
        html = cluster._repr_html_()
        assert html.count("<tr>") == 3
        assert cluster.address in html
        secret = token_path().read_text().strip()
        assert secret not in shown + repr(cluster) + html
        assert secret not in repr(Identity(bytes.fromhex(secret), b"", b"", (3, 13)))
        said(ip, "stop", capsys)
        assert worker.end()[0] == 0


# jmr run --listen

TRIANGULAR = """
source = dict(zip(range(100), range(100)))

def mapfn(key, value):
    for i in range(value + 1):
        yield str(key), i

def reducefn(key, values):
    return sum(values)
"""


@pytest.mark.slow
def test_a_task_file_runs_on_workers_alone(tmp_path: Path) -> None:
    (tmp_path / "triangular.py").write_text(TRIANGULAR)
    arguments = ["run", "triangular.py", "--workers", 0, "--json", "--listen", f"127.0.0.1:{free_port()}"]
    with Command(*arguments, program=MAIN, cwd=tmp_path) as run:
        text = "\n".join(run.line() for _ in range(5))
        assert run.line() == "triangular: map   0% · waiting for a worker to join · after 0 s"
        with Command(*command_in(text)) as worker:
            worker.line()
            assert run.end()[0] == 0
            assert json.loads(run.out) == {str(n): n * (n + 1) // 2 for n in range(100)}
            assert worker.line().endswith(" is gone; waiting for the next")
            worker.send(signal.SIGTERM)
            assert worker.end() == (0, "")


@pytest.mark.slow
def test_an_interrupt_ends_the_wait_for_workers(tmp_path: Path) -> None:
    (tmp_path / "triangular.py").write_text(TRIANGULAR)
    arguments = ["run", "triangular.py", "--workers", 0, "--listen", f"127.0.0.1:{free_port()}"]
    with Command(*arguments, program=MAIN, cwd=tmp_path) as run:
        while "waiting for a worker to join" not in run.line():
            pass
        run.send(signal.SIGINT)
        code, rest = run.end()
        assert (code, run.out) == (130, "")
        assert rest.splitlines()[-1] == "jmr: interrupted"
        assert len(rest.splitlines()) == 2  # and that the job was cancelled


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--workers", "0"],
            "jmr run: error: --workers 0 leaves the work to other hosts: say where they may join, --l",
        ),
        (
            ["--listen", "127.0.0.1", "--engine", "inline"],
            "jmr run: error: --engine inline runs it all without our workers",
        ),
    ],
)
def test_options_that_make_no_sense_exit_with_2(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from jmr.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["run", "triangular.py", *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


# The certificate


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [False, True])
def test_either_way_to_make_a_certificate_works(hidden: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if hidden:
        monkeypatch.setitem(sys.modules, "cryptography", None)
    else:
        pytest.importorskip("cryptography")
        monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "keys"))
    (tmp_path / "keys").mkdir()
    with jmr.Cluster(workers=0, listen="127.0.0.1:0") as cluster:
        with Command(cluster.address, "--slots", 1, "--once") as worker:
            assert worker.line() == f"jmr-worker: joined {cluster.address} with 1 slot"
    assert list((tmp_path / "keys").iterdir()) == []


def test_without_any_way_to_make_one_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(jmr.WorkerError) as caught:
        certificate.server_context()
    assert str(caught.value) == (
        'to listen takes a certificate, and nothing here can make one: pip install "jmr[remote]", or install the '
        "openssl command"
    )
