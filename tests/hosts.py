r"""Make-believe hosts on one Linux machine, for tests of jobs that run on several.

Each host is a set of namespaces with an address, a name, a /tmp, a /var/tmp, a /dev/shm and a home directory of its
own, and an sshd that lets the others in by key. They hang on a switch without an uplink. The laptop is behind a router:
it reaches the hosts, and no host reaches it.

    h1 10.77.0.11  h2 10.77.0.12  h3 10.77.0.13             nat1 10.77.1.11
         |              |              |                         |
         +---- switch --+--------------+---- 10.77.0.1 router 10.77.1.1

    with Hosts(2) as hosts:
        h1, h2 = hosts
        assert h1.run(["ssh", "h2", "hostname"]).stdout == "h2\n"
        worker = h2.popen([sys.executable, "-m", "jmr.worker", h1.address])
        h2.cut()

Nothing of it has a name outside of its own namespaces but one folder, in whose name is the pid of the tests: so several
runs do not meet. That folder is all that tests leave which are killed, and the next ones remove it.

It must never show a host a file of the tests' user, but for what Python runs from.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import PIPE
from typing import Any, Self

from tests.namespaces import DEADLINE, PATH, Machine, born_in, call, check_machine

#: The user's home directory, as sshd knows it, in whose place every host has one of its own.
HOME = pwd.getpwuid(os.getuid()).pw_dir
#: Where the hosts' files are: not where a host has a folder of its own.
FOLDERS = Path("/run")

SWITCH = """
ip link add br0 type bridge
ip link set br0 up
echo ready
exec cat
"""

ROUTER = """
ip link add br0 type bridge
echo 1 > /proc/sys/net/ipv4/ip_forward
iptables -w -t nat -A POSTROUTING -o eth0 -j MASQUERADE
iptables -w -A FORWARD -i eth0 -m state --state NEW -j DROP
echo waiting
read -r plugged
ip address add 10.77.1.1/24 dev br0
ip address add 10.77.0.1/24 dev eth0
ip link set br0 up
ip link set eth0 up
echo ready
exec cat
"""

# "fresh" puts an empty folder in a folder's place, in which only what the tests run from is where it was. A shell lets
# what it starts in the background ignore interrupts, and so would all that comes over ssh. With SIGCHLD ignored, what
# a process that has ended leaves running has no need of anybody to wait for it; a shell does not always ignore it.
HOST = r"""
folder=$1 address=$2 gateway=$3 home=$4
shift 4
fresh() {
    place=$1 mode=$2
    shift 2
    mount -t tmpfs -o "mode=$mode" tmpfs "$folder/mount"
    for kept; do
        case $kept in "$place"/*)
            mkdir -p "$folder/mount${kept#"$place"}"
            mount --rbind "$kept" "$folder/mount${kept#"$place"}" ;;
        esac
    done
    mount --move "$folder/mount" "$place"
}
fresh /tmp 1777 "$@"
fresh /dev/shm 1777 "$@"
fresh /var/tmp 1777 "$@"
fresh "$home" 700 "$@"
mkdir -m 700 "$home/.ssh"
ln -s "$folder/ssh_config" "$home/.ssh/config"
mount --bind "$folder/hosts" /etc/hosts
mount --bind "$folder/shadow" /etc/shadow
echo "$0" > /proc/sys/kernel/hostname
cd "$home"
echo waiting
read -r plugged
ip link set lo up
ip address add "$address/24" dev eth0
ip link set eth0 up
[ -z "$gateway" ] || ip route add default via "$gateway"
env --default-signal "$(command -v sshd)" -D -e -f "$folder/sshd_config" -h "$folder/$0.key" \
    -o "ListenAddress=$address" 2>&1 |
    { sed -u "/^Server listening/q"; exec cat >"$folder/$0.log"; } &
exec env --ignore-signal=CHLD cat >/dev/null 2>&1
"""

SSHD_CONFIG = """
AuthorizedKeysFile {folder}/key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
PidFile none
MaxStartups 200
AcceptEnv JMR_*
"""

SSH_CONFIG = """
Host *
    User root
    IdentityFile {folder}/key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    StrictHostKeyChecking yes
    BatchMode yes
    ConnectTimeout 5
    KexAlgorithms curve25519-sha256
"""


class Host:
    """A host: run something in it, or let something happen to it. See `Hosts`."""

    def __init__(self, name: str, address: str, gateway: str, switch: Machine, folder: Path) -> None:
        self.name = name
        self.address = address
        self._gateway = gateway
        self._switch = switch
        self._folder = folder
        self._port = f"p-{name}"
        self._machine: Machine | None = None
        self._processes: list[subprocess.Popen[Any]] = []

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.address}>"

    # --- what runs in it

    def run(
        self,
        command: Sequence[str | Path],
        *,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path = HOME,
        timeout: float = DEADLINE,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, as `subprocess.run` does, with text in and out.

        The variables of `env` are added to the tests' own, less those about jmr or a folder; HOME is the host's own.
        """
        stdin = subprocess.DEVNULL if input is None else PIPE
        process = self.popen(command, env=env, cwd=cwd, text=True, stdin=stdin)
        try:
            stdout, stderr = process.communicate(input, timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, process.wait(), stdout, stderr)

    def popen(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path = HOME,
        **options: Any,
    ) -> subprocess.Popen[Any]:
        """Start a command in the host; its pid is the process's own, as it is known outside.

        The options are those of `subprocess.Popen`; unless they say otherwise, input, output and errors are pipes. What
        still runs when the host is switched off, which happens at a test's end, is killed and waited for.
        """
        pid = self.pid
        enter = ["nsenter", f"--target={pid}", "--net", "--mount", "--uts", "--ipc", "env", f"--chdir={cwd}"]
        options = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE, "start_new_session": True, **options}
        with born_in(pid):
            process = subprocess.Popen([*enter, *command], env={**environment(), **(env or {})}, **options)
        self._processes.append(process)
        return process

    # --- what happens to its network

    def cut(self) -> None:
        """Pull the cable out: the host sees that it has no carrier."""
        self._set_port("down")

    def heal(self) -> None:
        """Put the cable back in."""
        self._set_port("up")

    def hole(self) -> None:
        """Lose every packet from now on, both ways, which neither end is told; addresses are still resolved."""
        self._lose("mangle", 100)

    def deafen(self) -> None:
        """Lose every packet that comes to it, and none that goes."""
        self._lose("mangle", 100, ["INPUT"])

    def mute(self) -> None:
        """Lose every packet that goes from it, and none that comes."""
        self._lose("mangle", 100, ["OUTPUT"])

    def unhole(self) -> None:
        """Let packets through again, both ways."""
        self._lose("mangle", 0)

    def loss(self, percent: float) -> None:
        """Lose so many of a hundred packets, both ways; 0 for none."""
        self._lose("filter", percent)

    def rate(self, rate: str | None) -> None:
        """Let through so much, as `tc` writes it ("100mbit"), each way; None for all. Ends a delay."""
        self._shape("tbf", "rate", rate, "burst", "256kb", "latency", "50ms") if rate else self._shape("pfifo")

    def delay(self, ms: float) -> None:
        """Add so many milliseconds to every round trip; 0 for none. Ends a rate."""
        self._shape("netem", "delay", f"{ms / 2}ms", "limit", "100000") if ms else self._shape("pfifo")

    # --- what happens to the host itself

    def freeze(self) -> None:
        """Stop every process of the host, sshd too."""
        self._signal_all("STOP")

    def thaw(self) -> None:
        """Let them go on."""
        self._signal_all("CONT")

    def poweroff(self) -> None:
        """Pull the cable out, then kill everything, so that nobody hears of it. Nothing of its disk is kept."""
        if self._machine is None:
            return
        self._switch.call(["ip", "link", "delete", self._port])
        self.kill()
        self.reap()

    def boot(self) -> None:
        """Switch the host on again; its sshd answers."""
        boot([self])

    # --- the parts of these, so that several hosts can go through them at once

    def start(self) -> None:
        """Make the namespaces."""
        if self._machine is not None:
            raise RuntimeError(f"{self.name} is on already")
        arguments = [str(self._folder), self.address, self._gateway, HOME, *kept_folders()]
        self._machine = Machine(self.name, HOST, *arguments)

    def plug(self) -> None:
        """Lay the cable. The card keeps its number, as others remember it."""
        card = "02:4a:" + ":".join(f"{int(part):02x}" for part in self.address.split("."))
        self._switch.plug(self._port, self._on, "address", card)

    def await_sshd(self) -> None:
        """Wait until it listens."""
        self._on.await_words("Server listening")

    def kill(self) -> None:
        """Kill what runs in it."""
        if self._machine is not None:
            self._machine.kill()

    def reap(self) -> None:
        """Wait for the end of all; a PID namespace ends only when those are reaped that the tests started in it."""
        for process in self._processes:
            process.wait()
        if self._machine is not None:
            self._machine.reap()
        self._machine = None

    def close(self) -> None:
        """Close the pipes to what ran in it, which could be read until now."""
        for process in self._processes:
            with contextlib.suppress(BrokenPipeError), process:
                pass

    @property
    def pid(self) -> int:
        """Its first process, as it is known outside: what is in its namespaces can be seen in /proc."""
        return self._on.pid

    @property
    def _on(self) -> Machine:
        if self._machine is None:
            raise RuntimeError(f"{self.name} is off: boot() it first")
        return self._machine

    def _set_port(self, words: str) -> None:
        """Set something about the switch's end of the cable."""
        self._switch.call(["ip", "link", "set", self._port, *words.split()])

    def _lose(self, table: str, percent: float, chains: Sequence[str] = ("INPUT", "OUTPUT")) -> None:
        """Of what comes and goes by cable; a table for each reason, so that they do not undo each other."""
        chance = ["-m", "statistic", "--mode", "random", "--probability", f"{percent / 100:f}"] if percent < 100 else []
        for chain, way in ("INPUT", "-i"), ("OUTPUT", "-o"):
            self._on.call(["iptables", "-w", "-t", table, "-F", chain])
            if percent and chain in chains:
                self._on.call(["iptables", "-w", "-t", table, "-A", chain, "!", way, "lo", *chance, "-j", "DROP"])

    def _shape(self, *discipline: str) -> None:
        """Set what queues for the cable at both of its ends."""
        for machine, device in (self._on, "eth0"), (self._switch, self._port):
            machine.call(["tc", "qdisc", "replace", "dev", device, "root", *discipline])

    def _signal_all(self, signal: str) -> None:
        """Send it to all but the first process; the kernel does so in one go, and nothing can fork meanwhile."""
        self.run(["sh", "-c", f"kill -s {signal} -- -1"])


class Hosts:
    """Hosts h1, h2, ... on one switch and, if wanted, the laptop nat1: made when entered, gone when left.

    Parameters
    ----------
    n
        So many, besides the laptop.
    laptop
        Whether there is one.

    Attributes
    ----------
    folder
        Every host, and the tests, see this folder in the same place.
    ssh_config
        Names every host, for `ssh -F`. Within a host `ssh` needs no telling.

    Examples
    --------
    ::

        with Hosts(3, laptop=True) as hosts:
            h1, h2, h3, nat1 = hosts
            assert hosts["h2"] is h2
    """

    folder: Path
    ssh_config: Path

    def __init__(self, n: int, *, laptop: bool = False) -> None:
        self._n = n
        self._laptop = laptop
        self._network: list[Machine] = []
        self._hosts: dict[str, Host] = {}
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        check_machine()
        remove_leftovers()
        try:
            self._make()
        except BaseException:  # also an interrupt
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def __iter__(self) -> Iterator[Host]:
        return iter(self._hosts.values())

    def _make(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"jmr-hosts-{os.getpid()}-", dir=FOLDERS))
        self._undo.callback(shutil.rmtree, self.folder)
        self._undo.callback(self._end)
        self.ssh_config = self.folder / "ssh_config"
        switch = self._machine("switch", SWITCH)
        addresses = {f"h{i}": f"10.77.0.{10 + i}" for i in range(1, self._n + 1)}
        if self._laptop:
            router = self._machine("router", ROUTER)
        for name, address in addresses.items():
            self._hosts[name] = Host(name, address, "", switch, self.folder)
        if self._laptop:
            self._hosts["nat1"] = Host("nat1", "10.77.1.11", "10.77.1.1", router, self.folder)
        self._write_files()
        switch.await_words("ready\n")
        if self._laptop:
            switch.plug("p-router", router)
            router.await_words("ready\n")
        boot(list(self))

    def _machine(self, name: str, script: str) -> Machine:
        self._network.append(Machine(name, script))
        return self._network[-1]

    def _write_files(self) -> None:
        """Keys, and what ssh, sshd and the hosts themselves are told; a root that is locked could not come in."""
        (self.folder / "mount").mkdir()
        for key in ["key", *(f"{host.name}.key" for host in self)]:
            call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "jmr", "-f", str(self.folder / key)])
        keys = {host: (self.folder / f"{host.name}.key.pub").read_text() for host in self}
        names = [f"Host {host.name}\n    HostName {host.address}\n" for host in self]
        for name, text in {
            "known_hosts": "".join(f"{host.address} {key}" for host, key in keys.items()),
            "ssh_config": "".join(names) + SSH_CONFIG.format(folder=self.folder),
            "sshd_config": SSHD_CONFIG.format(folder=self.folder),
            "hosts": "127.0.0.1 localhost\n" + "".join(f"{host.address} {host.name}\n" for host in self),
            "shadow": "root:*:1::::::\n",
        }.items():
            (self.folder / name).write_text(text)
        self.ssh_config.chmod(0o600)
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)

    def _end(self) -> None:
        for host in self:
            host.kill()
        for host in self:
            host.reap()
            host.close()
        for machine in self._network:
            machine.kill()
        for machine in self._network:
            machine.reap()


def boot(hosts: Sequence[Host]) -> None:
    """Switch hosts on, all at once."""
    for step in Host.start, Host.plug, Host.await_sshd:
        for host in hosts:
            step(host)


def environment() -> dict[str, str]:
    """The tests' variables, but for those that are about jmr or a folder of this machine's user."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("JMR_", "XDG_", "TMP", "SSH_"))}
    return {**kept, "HOME": HOME, "PATH": PATH}


def kept_folders() -> list[str]:
    """Where Python, jmr and the tests are, for these may be in /tmp or at home; the outer ones first."""
    folders = {sys.prefix, sys.base_prefix, str(Path(__file__).parents[1]), *filter(os.path.isdir, sys.path)}
    return sorted(folders | {os.path.realpath(folder) for folder in folders})


def remove_leftovers() -> None:
    """Remove the folders of runs that were killed; all else of them went by itself."""
    for folder in FOLDERS.glob("jmr-hosts-*-*"):
        if not Path("/proc", folder.name.split("-")[2]).exists():
            shutil.rmtree(folder, ignore_errors=True)
