"""The make-believe hosts themselves: what happens to them is seen where it should be, and they leave nothing."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.hosts import FOLDERS, HOME, Host, Hosts

pytestmark = pytest.mark.slow

TOP = Path(__file__).parents[1]

#: Prints what an address's ssh port says first.
KNOCK = """
import socket, sys
with socket.create_connection((sys.argv[1], 22), timeout=float(sys.argv[2])) as connection:
    print(connection.recv(4))
"""

#: Sends a packet to where nobody listens.
SAY = "import socket, sys; socket.socket(type=socket.SOCK_DGRAM).sendto(b'hello', (sys.argv[1], 9))"


def n_heard(host: Host) -> int:
    """How many packets have come to where nobody listens."""
    names, counts = (line.split() for line in host.run(["grep", "^Udp:", "/proc/net/snmp"]).stdout.splitlines())
    return int(counts[names.index("NoPorts")])


def reaches(host: Host, address: str, within: float = 10) -> bool:
    return host.run([sys.executable, "-c", KNOCK, address, str(within)]).stdout == "b'SSH-'\n"


def link(host: Host) -> str:
    return host.run(["ip", "link", "show", "eth0"]).stdout


def folders() -> set[Path]:
    return set(FOLDERS.glob(f"jmr-hosts-{os.getpid()}-*"))


def family(pid: int) -> set[int]:
    """A process's children, and theirs; so everything in the hosts that it has made."""
    found = set()
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            for child in map(int, (task / "children").read_text().split()):
                found |= {child, *family(child)}
    return found


def processes() -> set[int]:
    return {int(process.name) for process in Path("/proc").glob("[0-9]*")}


def await_end(pids: Iterable[int], timeout: float = 20) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError), open(os.pidfd_open(pid)) as end:
            assert select.select([end], [], [], timeout)[0], f"process {pid} is still there"


def test_hosts_have_names_and_folders_of_their_own_and_reach_each_other(netns_hosts: Hosts) -> None:
    h1, h2, h3, _ = netns_hosts
    assert [host.run(["hostname"]).stdout for host in netns_hosts] == ["h1\n", "h2\n", "h3\n", "nat1\n"]
    assert (h1.address, h2.address, h3.address) == ("10.77.0.11", "10.77.0.12", "10.77.0.13")
    assert reaches(h1, "h2")
    assert reaches(h2, "h1")
    for folder in "~", "/tmp", "/var/tmp", "/dev/shm":
        assert h1.run(["sh", "-c", f"cat >{folder}/file"], input="of h1").returncode == 0
        assert h1.run(["sh", "-c", f"cat {folder}/file"]).stdout == "of h1"
        assert "No such file" in h2.run(["sh", "-c", f"cat {folder}/file"]).stderr
    assert h1.run(["sh", "-c", "echo $HOME $A"], env={"A": "a"}).stdout == f"{HOME} a\n"
    assert h1.run([sys.executable, "-c", "import jmr"], cwd=TOP).stderr == ""


def test_ssh_goes_from_host_to_host(netns_hosts: Hosts) -> None:
    h1, h2, *_ = netns_hosts
    command = ["env", "JMR_A=a", "ssh", "-o", "SendEnv=JMR_*", "-F", str(netns_hosts.ssh_config), "h2"]
    done = h1.run([*command, "hostname; pwd; echo $JMR_A; cat"], input="in and out")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"h2\n{HOME}\na\nin and out", "")
    assert h2.run(["ssh", "h1", "exit 3"]).returncode == 3


def test_laptop_reaches_hosts_and_is_not_reached(netns_hosts: Hosts) -> None:
    nat1, h1 = netns_hosts["nat1"], netns_hosts["h1"]
    came_from = nat1.run(["ssh", "h1", "echo $SSH_CONNECTION"]).stdout
    assert came_from.startswith("10.77.0.1 ")
    assert not reaches(h1, nat1.address, within=0.3)
    assert reaches(nat1, nat1.address)


def test_cable_is_out_and_in_again(netns_hosts: Hosts) -> None:
    h1, h2, *_ = netns_hosts
    h1.cut()
    assert "NO-CARRIER" in link(h1)
    assert not reaches(h2, "h1", within=0.3)
    h1.heal()
    assert "NO-CARRIER" not in link(h1)
    assert reaches(h2, "h1")


def test_hole_is_not_noticed(netns_hosts: Hosts) -> None:
    h1, h2, *_ = netns_hosts
    h1.hole()
    assert "NO-CARRIER" not in link(h1)
    assert not reaches(h2, "h1", within=0.3)
    assert not reaches(h1, "h2", within=0.3)
    assert reaches(h1, "h1")
    h1.unhole()
    assert reaches(h2, "h1")


def test_packets_are_lost_one_way(netns_hosts: Hosts) -> None:
    h1, h2, *_ = netns_hosts

    def is_heard(host: Host, by: Host) -> bool:
        """Whether what it says, to which there is no answer, comes to the other."""
        before = n_heard(by)
        host.run([sys.executable, "-c", SAY, by.address])
        return n_heard(by) > before

    assert (is_heard(h1, h2), is_heard(h2, h1)) == (True, True)
    h1.mute()
    assert (is_heard(h1, h2), is_heard(h2, h1)) == (False, True)
    h1.deafen()
    assert (is_heard(h1, h2), is_heard(h2, h1)) == (True, False)
    h1.unhole()
    assert reaches(h2, "h1")


def test_packets_are_lost_all_or_some_or_none(netns_hosts: Hosts) -> None:
    h1, h2, *_ = netns_hosts
    h1.loss(100)
    assert not reaches(h2, "h1", within=0.3)
    h1.loss(1)
    assert reaches(h2, "h1")
    h1.loss(0)
    assert reaches(h2, "h1")


def test_rate_is_a_limit(netns_hosts: Hosts) -> None:
    h1 = netns_hosts["h1"]
    h1.rate("8mbit")
    start = time.monotonic()
    assert h1.run(["ssh", "h2", "wc -c"], input="." * 1_000_000).stdout == "1000000\n"
    assert time.monotonic() - start > 0.6  # a quarter of it passes at once
    h1.rate(None)
    assert reaches(h1, "h2")


def test_delay_is_added_to_the_round_trip(netns_hosts: Hosts) -> None:
    h1, h2, *_ = netns_hosts
    h1.delay(200)
    assert not reaches(h2, "h1", within=0.15)
    assert reaches(h2, "h1")
    h1.delay(0)
    assert reaches(h2, "h1")


def test_frozen_host_says_nothing_until_it_thaws(netns_hosts: Hosts) -> None:
    h1, h2, *_ = netns_hosts
    echo = h1.popen(["cat"], bufsize=0)
    h1.freeze()
    echo.stdin.write(b"hello")
    assert not reaches(h2, "h1", within=0.3)  # the kernel accepts, and sshd does not answer
    assert select.select([echo.stdout], [], [], 0)[0] == []
    h1.thaw()
    assert echo.stdout.read(5) == b"hello"
    assert reaches(h2, "h1")


def test_orphan_is_gone_when_it_has_ended(netns_hosts: Hosts) -> None:
    h1 = netns_hosts["h1"]
    orphan = h1.run(["sh", "-c", "sleep infinity & echo $!; kill -9 $! $$"]).stdout.strip()
    assert h1.run(["ps", "-p", orphan, "-o", "stat="]).stdout == ""


def test_process_in_a_host_is_killed_by_its_pid(netns_hosts: Hosts) -> None:
    sleeper = netns_hosts["h1"].popen(["sleep", "infinity"])
    os.kill(sleeper.pid, signal.SIGTERM)
    assert sleeper.wait(20) == -signal.SIGTERM


def test_poweroff_ends_all_and_boot_starts_anew(netns_hosts: Hosts) -> None:
    h1, h2, *_ = netns_hosts
    ours = h1.popen(["sleep", "infinity"])
    inner = h2.popen(["ssh", "h1", "echo started; touch file; exec sleep infinity"])
    assert inner.stdout.readline() == b"started\n"
    h1.poweroff()
    assert (ours.returncode, ours.stdout.read()) == (-signal.SIGKILL, b"")
    assert inner.poll() is None  # nobody has told it
    assert not reaches(h2, "h1", within=0.3)
    with pytest.raises(RuntimeError, match="h1 is off"):
        h1.run(["true"])
    h1.boot()
    assert h2.run(["ssh", "h1", "ls"]).stdout == ""


def test_nothing_is_left_at_the_end() -> None:
    before = family(os.getpid()), folders()
    with Hosts(1, laptop=True) as hosts:
        hosts["h1"].popen(["sleep", "infinity"])
        hosts["h1"].freeze()
        hosts["nat1"].run(["sh", "-c", "setsid sleep infinity >/dev/null 2>&1 &"])
        inside = family(os.getpid()) - before[0]
        assert len(inside) >= 2 * len(["switch", "router"]) + 4 * len(["h1", "nat1"]) + len(["sleep", "sleep"])
        assert folders() - before[1] == {hosts.folder}
    assert (inside & processes(), folders()) == (set(), before[1])


def test_nothing_is_left_of_a_start_that_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Host) -> None:
        inside.update(family(os.getpid()) - before[0])
        raise KeyboardInterrupt

    before = family(os.getpid()), folders()
    inside: set[int] = set()
    monkeypatch.setattr(Host, "await_sshd", interrupted)
    with pytest.raises(KeyboardInterrupt), Hosts(2):
        pass
    assert inside
    assert (inside & processes(), folders()) == (set(), before[1])


@pytest.mark.usefixtures("netns_hosts")
def test_hosts_die_with_the_tests() -> None:
    script = """if True:
        import sys
        from tests.hosts import Hosts
        with Hosts(2, laptop=True) as hosts:
            for host in hosts:
                host.run(["sh", "-c", "setsid sleep infinity >/dev/null 2>&1 &"])
            hosts["h1"].freeze()
            print(hosts.folder, flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=TOP) as tests:
        assert tests.stdout is not None
        folder = Path(tests.stdout.readline().strip())
        assert folder.parent == FOLDERS
        inside = family(tests.pid)
        tests.kill()
    await_end(inside)
    assert folder.exists()
    with Hosts(1):
        assert not folder.exists()


@pytest.mark.usefixtures("netns_hosts")
def test_runs_at_the_same_time_do_not_meet() -> None:
    def run() -> None:
        with Hosts(2) as hosts:
            found.append(hosts["h1"].run(["ssh", "h2", "hostname"]).stdout)

    found: list[str] = []
    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["h2\n"] * 3
