"""jmr-worker: what it says, and how it ends."""

from __future__ import annotations

import contextlib
import os
import pty
import secrets
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cloudpickle
import pytest

import jmr
from jmr.launch.certificate import server_context
from jmr.launch.token import token_path
from tests.joiners import DEADLINE, TOP, WORKER, Command, other_pythons, worker
from tests.ports import free_port

#: Found before a test has another home directory.
OTHER_PYTHONS = list(other_pythons())

#: As if it ran another Python.
WITH_OTHER_PYTHON = f"""
from jmr.launch import joining
real = joining.Identity
joining.Identity = lambda token, certificate, nonce, python: real(token, certificate, nonce, (3, 99))
{WORKER}
"""
WITH_OTHER_RELEASE = f"""
from jmr.wire import handshake
handshake._VERSION += 1
{WORKER}
"""
#: The terminal that it gets as stdin is the one that it would ask at.
IN_A_TERMINAL = f"""
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
{WORKER}
"""
WITHOUT_A_SUPERVISOR = f"""
import sys
sys.executable = "/nonexistent/python"
{WORKER}
"""
#: Its supervisor runs a line of Python first.
WITH_OTHER_SLOTS = f"""
from jmr.launch import agent, joining, local
real = local._program
joining._LONGEST_PAUSE = 0.1
local._program = lambda *given: "import os; from jmr.worker import supervisor; {{line}}; " + real(*given)
{WORKER}
"""
DEAD_SLOTS = WITH_OTHER_SLOTS.format(line="supervisor.Slot = lambda *given: os._exit(7)")
LYING_SLOTS = WITH_OTHER_SLOTS.format(line="supervisor.Slot = lambda _, line, *__: line.sendall(bytes(99))")
#: For what it writes itself; its slots are other processes.
WITH_A_FULL_DISK = f"""
import errno, os
from jmr.shuffle import arriving
def check_room(directory, n_bytes):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
arriving.check_room = check_room
{WORKER}
"""
NO_FIELDS = "the peer sent fields that are no JSON: Expecting value: line 1 column 1 (char 0)"
IMPATIENT = f"""
from jmr.launch import joining
joining._JOIN_SECONDS = 0.5
{WORKER}
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("JMR_TOKEN", raising=False)
    return tmp_path


@pytest.fixture
def coordinator() -> Iterator[jmr.Cluster]:
    """One that listens, and has no slots of its own."""
    with jmr.Cluster(workers=0, listen="127.0.0.1:0") as cluster:
        yield cluster


Serve = Callable[[Callable[[socket.socket], object]], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server that does something with each connection; gives its address."""
    with contextlib.ExitStack() as undo:

        def serve(function: Callable[[socket.socket], object]) -> str:
            def accept() -> None:
                while True:
                    try:
                        connection, _ = listening.accept()
                    except OSError:  # closed
                        return
                    with connection, contextlib.suppress(OSError):
                        function(connection)

            listening = socket.create_server(("127.0.0.1", 0))
            thread = threading.Thread(target=accept)
            thread.start()
            undo.callback(thread.join)
            undo.callback(listening.close)
            undo.callback(listening.shutdown, socket.SHUT_RDWR)
            return "{}:{}".format(*listening.getsockname())

        yield serve


def token_of(home: Path, text: str | None = None, mode: int = 0o600) -> Path:
    """A token file for somebody with this home directory."""
    path = home / ".config" / "jmr" / "token"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text or secrets.token_hex(32) + "\n")
    path.chmod(mode)
    return path


# What it takes


def test_help_tells_all_that_there_is() -> None:
    with Command("--help") as command:
        assert command.end() == (0, "")
        for word in (
            "HOST[:PORT]",
            "--slots N",
            "--token-file F",
            "--once",
            "-v",
            "JMR_TOKEN",
            "%jmr listen",
            "exit code",
        ):
            assert word in command.out
        assert "--over-ssh" not in command.out
        assert max(map(len, command.out.splitlines())) <= 120


def test_version_is_that_of_jmr() -> None:
    with Command("--version") as command:
        assert (command.end(), command.out) == ((0, ""), f"jmr {jmr.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "where does the coordinator listen? jmr-worker HOST"),
        (["host:99999"], "'host:99999' is no address: write HOST or HOST:PORT, such as 10.0.0.5 or 10.0.0.5:18273"),
        ([""], "'' is no address"),
        (["[::1"], "'[::1' is no address: write [HOST]:PORT"),
        (["[::1]x"], "'[::1]x' is no address: write [HOST]:PORT"),
        (["[]"], "'[]' is no address"),
        ([":80"], "':80' is no address"),
        (["host:"], "'host:' is no address"),
        (["host:0"], "port 0 is for whoever listens: write the one that the coordinator has shown"),
        (["host:１２"], "'host:１２' is no address"),
        (["a b"], "'a b' is no address"),
        (["a..b"], "'a..b' is no address"),
        (["x" * 64], f"'{'x' * 64}' is no address"),
        (["http://10.0.0.5"], "'http://10.0.0.5' is no address"),
        (["-x"], "unrecognized arguments: -x"),
        (["a", "b"], "unrecognized arguments: b"),
        (["--slots", "0", "host"], "--slots must be from 1 to 4,096, not 0"),
        (["--slots", "5000", "host"], "--slots must be from 1 to 4,096, not 5000"),
        (["--slots", "x", "host"], "argument --slots: invalid int value: 'x'"),
    ],
)
def test_a_command_that_makes_no_sense_exits_with_2(
    arguments: list[str], message: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from jmr.cli import worker_main

    with pytest.raises(SystemExit) as ended:
        worker_main(arguments)
    assert ended.value.code == 2
    usage, _, said = capsys.readouterr().err.partition("jmr-worker: error: ")
    assert usage.startswith("usage: jmr-worker ")
    assert said.startswith(message)
    assert list(home.iterdir()) == []


# The token


def test_without_a_token_it_says_where_to_get_one(home: Path) -> None:
    code, said = worker("10.0.0.5")
    assert code == 3
    assert said == (
        f"jmr-worker: the token file {home}/.config/jmr/token cannot be read: No such file or directory. Copy it there "
        "from the host that the notebook runs on, and only you may be able to read it: chmod 600\n"
    )
    assert list(home.iterdir()) == []


def test_a_token_that_others_can_read_is_refused(home: Path) -> None:
    path = token_of(home, mode=0o644)
    code, said = worker("127.0.0.1:1")
    assert (code, said.count("\n")) == (3, 1)
    assert said.startswith(f"jmr-worker: others can read the token file {path}, and whoever holds the token can run")
    assert path.read_text().strip() not in said


def test_a_file_that_holds_no_token_is_refused_and_not_shown(home: Path) -> None:
    path = token_of(home, "hunter2")
    code, said = worker("127.0.0.1:1", "--token-file", path)
    assert (code, said) == (3, f"jmr-worker: the token file {path} holds no token: that is 64 hexadecimal digits\n")


def test_a_token_file_that_is_not_there_is_named(home: Path) -> None:
    code, said = worker("127.0.0.1:1", "--token-file", "nowhere")
    assert code == 3
    assert said.startswith("jmr-worker: the token file nowhere cannot be read: No such file or directory.")
    assert list(home.iterdir()) == []


def test_a_variable_that_holds_no_token_is_refused_and_not_shown() -> None:
    code, said = worker("127.0.0.1:1", env={"JMR_TOKEN": "ab" * 31})
    assert code == 3
    assert said == "jmr-worker: the environment variable JMR_TOKEN holds no token: that is 64 hexadecimal digits\n"


@pytest.mark.slow
def test_another_token_is_refused(coordinator: jmr.Cluster) -> None:
    code, said = worker(coordinator.address, env={"JMR_TOKEN": "ab" * 32})
    assert (code, said.count("\n")) == (3, 1)
    assert said.startswith(f"jmr-worker: the coordinator at {coordinator.address} holds another token, or somebody")
    assert "ab" * 32 not in said


@pytest.mark.slow
def test_a_token_that_was_renewed_is_read_again(home: Path) -> None:
    where = f"127.0.0.1:{free_port()}"
    with jmr.Cluster(workers=0, listen=where) as first:
        command = Command(where, "--slots", 1)
        assert "joined" in command.line()
        first.listen(where, new_token=True)
    with command:
        assert command.line() == f"jmr-worker: the coordinator at {where} is gone; waiting for the next"
        with jmr.Cluster(workers=0, listen=where):
            assert command.line() == f"jmr-worker: joined {where} with 1 slot"
            command.send(signal.SIGTERM)
            assert command.end()[0] == 0  # what it says depends on how fast its slot, which has just been forked, ends


@contextlib.contextmanager
def asked_for_a_token(address: str, home: Path) -> Iterator[tuple[Command, int]]:
    """The worker of somebody who has none, at its question; and the terminal."""
    terminal, its_end = pty.openpty()
    try:
        with Command(address, program=IN_A_TERMINAL, stdin=its_end, env={"HOME": str(home)}) as command:
            os.close(its_end)
            assert command.line().startswith(f"There is no token in {home}/.config/jmr/token. Copy that file")
            assert os.read(terminal, 100) == b"token: "
            yield command, terminal
    finally:
        os.close(terminal)


@pytest.mark.slow
def test_in_a_terminal_a_token_can_be_pasted(coordinator: jmr.Cluster, tmp_path: Path) -> None:
    somebody = tmp_path / "somebody"
    somebody.mkdir()
    where = coordinator.address.replace("127.0.0.1", "127.1")  # as if it were another host's
    with asked_for_a_token(where, somebody) as (command, terminal):
        os.write(terminal, b"  " + token_path().read_bytes())
        assert command.line().startswith(f"jmr-worker: joined {where} with ")
        assert os.read(terminal, 100) == b"\r\n"  # it is not shown
        command.send(signal.SIGTERM)
        assert command.end() == (0, "")
    assert list(somebody.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "code", "message"),
    [
        (b"hunter2\n", 3, "jmr-worker: what you have pasted holds no token: that is 64 hexadecimal digits\n"),
        (b"\4", 3, "jmr-worker: no token, no work\n"),
        (b"\3", 130, "jmr-worker: interrupted\n"),
    ],
    ids=["junk", "end", "interrupt"],
)
def test_what_is_typed_instead_of_a_token_ends_it(typed: bytes, code: int, message: str, tmp_path: Path) -> None:
    with asked_for_a_token("10.0.0.5", tmp_path) as (command, terminal):
        os.write(terminal, typed)
        assert command.end() == (code, message)


# Whoever is there


@pytest.mark.slow
def test_another_python_is_refused_with_both_versions(coordinator: jmr.Cluster) -> None:
    code, said = worker(coordinator.address, program=WITH_OTHER_PYTHON)
    ours = "{}.{}".format(*sys.version_info)
    assert code == 4
    assert said == (
        f"jmr-worker: the coordinator at {coordinator.address} runs Python {ours}, and this worker {ours}: functions "
        f"cannot travel between them. Start jmr-worker with Python {ours}\n"
    )


@pytest.mark.slow
def test_real_interpreters_of_other_versions_are_refused(coordinator: jmr.Cluster, tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "cloudpickle").symlink_to(Path(cloudpickle.__file__).parent)
    path = os.pathsep.join([str(TOP), str(tmp_path / "packages")])
    for python, version in OTHER_PYTHONS:
        code, said = worker(
            coordinator.address, python=python, env={"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        )
        assert code == 4, said
        assert said.startswith(f"jmr-worker: the coordinator at {coordinator.address} runs Python ")
        assert f", and this worker {version}: functions cannot travel between them. Start jmr-worker with" in said


@pytest.mark.slow
def test_another_release_is_refused(coordinator: jmr.Cluster) -> None:
    code, said = worker(coordinator.address, program=WITH_OTHER_RELEASE)
    assert code == 4
    assert said == (
        f"jmr-worker: the coordinator at {coordinator.address} runs another release of jmr: install the same one here\n"
    )


@pytest.mark.slow
def test_a_name_that_does_not_resolve_is_told(home: Path) -> None:
    token_of(home)
    code, said = worker("nosuch.invalid")
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith("jmr-worker: 'nosuch.invalid' does not resolve to an address: ")


@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_with_once_it_ends_where_nobody_listens(host: str) -> None:
    where = f"{host}:{free_port()}"
    assert worker(where, "--once") == (5, f"jmr-worker: nobody listens at {where}\n")


@pytest.mark.slow
def test_it_waits_for_a_coordinator_and_says_so_once() -> None:
    port = free_port()
    where = f"127.0.0.1:{port}"
    with Command(where, "--slots", 1, "-v") as command:
        assert command.line().endswith(f" jmr-worker: nobody listens at {where}; trying again, now and then")
        with jmr.Cluster(workers=0, listen=where):
            assert command.line().endswith(f" jmr-worker: joined {where} with 1 slot")
        assert command.line().endswith(f" jmr-worker: the coordinator at {where} is gone; waiting for the next")
        with jmr.Cluster(workers=0, listen=where) as cluster:
            assert command.line().endswith(f" jmr-worker: joined {where} with 1 slot")
            assert jmr.run({1: 2}, lambda k, v: [(k, v)], engine=cluster, progress=False) == {1: [2]}
        command.send(signal.SIGTERM)
        code, said = command.end()
        assert code == 0
        assert "Traceback" not in said


@pytest.mark.slow
def test_with_once_it_ends_with_its_coordinator() -> None:
    with jmr.Cluster(workers=0, listen="127.0.0.1:0") as cluster:
        command = Command(cluster.address, "--once", "--slots", 2)
        where = cluster.address
        assert command.line() == f"jmr-worker: joined {where} with 2 slots"
    with command:
        assert command.end() == (0, f"jmr-worker: the coordinator at {where} is gone\n")


def _http(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(b"HTTP/1.0 400 Bad request\r\n\r\n")


def _tls_1_2(connection: socket.socket) -> None:
    context, _ = server_context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.wrap_socket(connection, server_side=True)


def _https(connection: socket.socket) -> None:
    context, _ = server_context()
    with context.wrap_socket(connection, server_side=True) as tls:
        tls.recv(1000)
        tls.sendall(b"HTTP/1.0 400 Bad request\r\n\r\n")
        tls.recv(1000)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_2 is deprecated")
@pytest.mark.parametrize(
    ("server", "message"), [(_http, ": it speaks no TLS 1.3"), (_tls_1_2, ": it speaks no TLS 1.3"), (_https, "")]
)
def test_who_is_no_coordinator_is_told_so(serve: Serve, server: Callable[[socket.socket], None], message: str) -> None:
    where = serve(server)
    assert worker(where) == (4, f"jmr-worker: what listens at {where} is no jmr coordinator{message}\n")


def _close(connection: socket.socket) -> None:
    connection.close()


def _read_and_close(connection: socket.socket) -> None:
    connection.recv(1000)


def _tls_and_close(connection: socket.socket) -> None:
    context, _ = server_context()
    with context.wrap_socket(connection, server_side=True) as tls:
        tls.recv(1000)


@pytest.mark.slow
@pytest.mark.parametrize("server", [_close, _read_and_close, _tls_and_close])
def test_who_closes_the_connection_is_told_so(serve: Serve, server: Callable[[socket.socket], None]) -> None:
    where = serve(server)
    assert worker(where, "--once") == (5, f"jmr-worker: what listens at {where} closes the connection\n")


def _be_silent(connection: socket.socket) -> None:
    while connection.recv(1000):
        pass


def _be_silent_over_tls(connection: socket.socket) -> None:
    context, _ = server_context()
    with context.wrap_socket(connection, server_side=True) as tls:
        _be_silent(tls)


@pytest.mark.slow
@pytest.mark.parametrize("server", [_be_silent, _be_silent_over_tls])
def test_who_is_silent_is_told_so(serve: Serve, server: Callable[[socket.socket], None]) -> None:
    where = serve(server)
    assert worker(where, "--once", program=IMPATIENT) == (5, f"jmr-worker: {where} does not answer\n")
    with Command(where, program=IMPATIENT) as command:
        assert command.line() == f"jmr-worker: {where} does not answer; trying again, now and then"
        command.send(signal.SIGTERM)
        assert command.end() == (0, "")


# How it is ended


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_worker_that_waits(number: signal.Signals) -> None:
    where = f"127.0.0.1:{free_port()}"
    with Command(where) as command:
        command.line()
        command.send(number)
        assert command.end() == (0, "")
        command.await_nobody()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_worker_that_has_joined(coordinator: jmr.Cluster, number: signal.Signals) -> None:
    with Command(coordinator.address, "--slots", 2) as command:
        command.line()
        assert jmr.run({1: 2}, lambda k, v: [(k, v)], progress=False) == {1: [2]}
        command.send(number)
        assert command.end() == (0, "")
        command.await_nobody()


@pytest.mark.slow
def test_an_attempt_is_finished_first_and_a_second_signal_does_not_wait(
    coordinator: jmr.Cluster, tmp_path: Path
) -> None:
    started = str(tmp_path / "started")
    os.mkfifo(started)

    def endless(key: int, value: int) -> list[tuple[int, int]]:
        import time

        with open(started, "w") as file:
            file.write("x")
        time.sleep(1000)
        return []

    with Command(coordinator.address, "--slots", 1, "-v") as command:
        command.line()
        job = jmr.submit({1: 1}, endless, progress=False)
        with open(started) as file:
            file.read()
        command.send(signal.SIGINT)
        assert command.line().endswith(" jmr-worker: leaving: slots finish what they are at")
        assert command.line().endswith(" jmr-worker: finishing what runs, for up to 10 s; Ctrl-C ends it at once")
        command.send(signal.SIGINT)
        assert command.end() == (0, "")
        command.await_nobody()
    job.cancel()
    with pytest.raises(jmr.JobCancelled):
        job.result()


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(not has_ipv6(), reason="kernel forbids IPv6")
def test_it_joins_by_ipv6() -> None:
    with jmr.Cluster(workers=0, listen="[::1]:0") as cluster, Command(cluster.address, "--slots", 1) as command:
        assert cluster.address.startswith("[::1]:")
        assert command.line() == f"jmr-worker: joined {cluster.address} with 1 slot"
        assert jmr.run({1: 2}, lambda k, v: [(k, v)], progress=False) == {1: [2]}
        command.send(signal.SIGTERM)
        assert command.end() == (0, "")


# A worker that is broken


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "options", "reason"),
    [
        (DEAD_SLOTS, [], "slots end as soon as they start, with status 7"),
        (DEAD_SLOTS, ["--once"], "slots end as soon as they start, with status 7"),
        (LYING_SLOTS, [], f"it has sent what cannot be right ({NO_FIELDS})"),
    ],
    ids=["dead", "dead, once", "lying"],
)
def test_a_worker_of_no_use_is_told_so_and_ends(
    coordinator: jmr.Cluster, program: str, options: list[str], reason: str
) -> None:
    code, said = worker(coordinator.address, "--slots", 2, *options, program=program)
    assert code == 1
    assert said.splitlines() == [
        f"jmr-worker: joined {coordinator.address} with 2 slots",
        f"jmr-worker: the coordinator has let this worker go: {reason}",
    ] * 4 + ["jmr-worker: it has come to that 4 times in a row: this worker is broken"]
    with Command(coordinator.address, "--slots", 1) as command:
        command.line()
        assert jmr.run({1: 2}, lambda k, v: [(k, v)], progress=False) == {1: [2]}


@pytest.mark.slow
def test_a_worker_that_did_well_for_long_is_not_broken(coordinator: jmr.Cluster) -> None:
    program = DEAD_SLOTS.replace("real =", "agent._LASTING_SECONDS = 0; real =")
    with Command(coordinator.address, "--slots", 2, program=program) as command:
        for _ in range(6):
            assert command.line() == f"jmr-worker: joined {coordinator.address} with 2 slots"
            assert command.line().startswith("jmr-worker: the coordinator has let this worker go: ")


def supervisor_of(command: Command) -> int:
    """The process that a worker with slots has started."""
    (found,) = [pid for pid in command.family() if pid != command.process.pid and parent_of(pid) == command.process.pid]
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.slow
def test_supervisors_that_are_lost_are_counted_anew_after_a_coordinator_that_ended() -> None:
    where = f"127.0.0.1:{free_port()}"
    with Command(where, "--slots", 1, program=WITH_OTHER_SLOTS.format(line="pass")) as command:
        command.line()
        for _ in range(3):
            with jmr.Cluster(workers=0, listen=where):
                for _ in range(2):
                    assert command.line() == f"jmr-worker: joined {where} with 1 slot"
                    os.kill(supervisor_of(command), signal.SIGKILL)
                    assert command.line().startswith("jmr-worker: the process that forks slots has ended: ")
                assert command.line() == f"jmr-worker: joined {where} with 1 slot"
            assert command.line() == f"jmr-worker: the coordinator at {where} is gone; waiting for the next"


# Its host


@pytest.mark.slow
def test_a_host_without_room_for_functions_takes_part_in_other_jobs(home: Path) -> None:
    ballast = os.urandom(5_000_000)

    def large(key: int, value: int) -> list[tuple[int, int]]:
        return [(key, len(ballast))]

    def small(key: int, value: int) -> list[tuple[int, int]]:
        return [(key, value)]

    options = {"program": WITH_A_FULL_DISK, "env": {"JMR_MEMORY": "0", "JMR_TMP": str(home)}}
    with jmr.Cluster(workers=0, listen="127.0.0.1:0") as cluster:
        with Command(cluster.address, "--slots", 2, **options) as command:
            command.line()
            with pytest.raises(jmr.WorkerError) as raised:
                jmr.run({i: i for i in range(9)}, large, engine=cluster, progress=False)
            name = socket.gethostname()
            told = str(raised.value)
            assert told.startswith(f"no worker can run this job: {name} cannot keep the functions of this job: a file ")
            assert f" bytes cannot be written to {home}/jmr-" in told
            assert "[Errno 28] No space left on device. Free some space there, or start jmr-worker with JMR_TMP" in told
            assert jmr.run({1: 2}, small, engine=cluster, progress=False) == {1: [2]}
            cluster.resize(1)
            result = jmr.run({i: i for i in range(9)}, large, engine=cluster, progress=False)
            assert dict(result) == {i: [len(ballast)] for i in range(9)}
            assert jmr.run({1: 2}, small, engine=cluster, progress=False) == {1: [2]}
            command.send(signal.SIGTERM)
            assert command.end() == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["127.0.0.1:1"], ["--over-ssh"]])
def test_a_memory_that_is_no_size_is_told_before_it_joins(home: Path, arguments: list[str]) -> None:
    token_of(home)
    code, said = worker(*arguments, env={"JMR_MEMORY": "lots", "JMR_TMP": str(home)})
    assert code == 2
    assert said == ('jmr-worker: JMR_MEMORY is \'lots\', which is no size: write "512M" or "4G", or how many bytes\n')
    assert list(home.glob("jmr-*")) == []


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["127.0.0.1:1"], ["--over-ssh"]])
def test_a_worker_that_cannot_start_leaves_no_directory(home: Path, arguments: list[str]) -> None:
    token_of(home)
    code, said = worker(*arguments, program=WITHOUT_A_SUPERVISOR, env={"JMR_TMP": str(home)})
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("jmr-worker: the worker on this host cannot be started: [Errno 2] No such file or directory")
    assert list(home.glob("jmr-*")) == []


@pytest.mark.slow
@pytest.mark.parametrize("over_ssh", [False, True])
def test_what_a_killed_worker_left_is_removed(home: Path, over_ssh: bool) -> None:
    token_of(home)
    left = home / f"jmr-{os.getuid()}-left"
    (left / "job-1").mkdir(parents=True)
    (left / "job-1" / "functions").write_bytes(b"x")
    os.utime(left, (0, 0))
    arguments = ["--over-ssh"] if over_ssh else ["127.0.0.1:1"]
    ours, its_end = os.pipe()
    with Command(*arguments, env={"JMR_TMP": str(home)}, stdin=ours), open(ours), open(its_end):
        end = time.monotonic() + DEADLINE
        while left.exists():
            assert time.monotonic() < end
            time.sleep(0.01)


# The token again


@pytest.mark.slow
def test_the_token_is_seen_nowhere(coordinator: jmr.Cluster) -> None:
    secret = token_path().read_text().strip()

    def environment(key: int, value: int) -> Iterator[tuple[int, object]]:
        yield key, dict(os.environ)

    with Command(coordinator.address, "--slots", 1, env={"JMR_TOKEN": secret, "HOME": "/nonexistent"}) as command:
        command.line()
        ((seen,),) = jmr.run({1: 1}, environment, progress=False).values()
        assert seen["HOME"] == "/nonexistent"
        assert secret not in str(seen)
        family = command.family()
        assert len(family) >= 3  # itself, the supervisor and the slot
        for pid, folder in family.items():
            assert secret.encode() not in (folder / "cmdline").read_bytes()
            assert pid == command.process.pid or secret.encode() not in (folder / "environ").read_bytes()
        command.send(signal.SIGTERM)
        assert command.end() == (0, "")
    assert secret not in repr(coordinator) + coordinator._repr_html_()
