"""Where a coordinator listens, and how it begins to."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from jmr.errors import WorkerError
from jmr.launch.local import close_in_forks

__all__ = ["DEFAULT_PORT", "Address", "bound", "parsed_address"]

DEFAULT_PORT = 18273
#: What resolves, and what does not, is the system's business; this only keeps out what nobody meant.
_HOST, _PORT = r"[^\s/@\[\]]+", "[0-9]{1,5}"
#: Connections that wait to be let in.
_BACKLOG = 512


@dataclass(frozen=True, slots=True)
class Address:
    """Where a coordinator listens."""

    host: str
    port: int = DEFAULT_PORT

    @property
    def is_loopback(self) -> bool:
        """Whether no other host can come there."""
        return self.host in ("localhost", "::1") or re.fullmatch(r"127(\.\d+){1,3}", self.host) is not None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parsed_address(text: str) -> Address:
    """HOST, HOST:PORT, or [HOST]:PORT where HOST has colons of its own.

    Raises
    ------
    ValueError
        It is none of these.

    Examples
    --------
    >>> parsed_address("10.0.0.5"), str(parsed_address("[fe80::1]:4000"))
    (Address(host='10.0.0.5', port=18273), '[fe80::1]:4000')
    """
    host, colon, port = text.strip(), "", ""
    if host.startswith("["):
        host, bracket, rest = host[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is no address: write [HOST]:PORT")
        colon, port = rest[:1], rest[1:]
    elif host.count(":") == 1:
        host, colon, port = host.partition(":")
    elif ":" in host and not _is_version_6(host):
        raise ValueError(f"{text!r} is no address: write HOST:PORT, or [HOST]:PORT where HOST has colons of its own")
    if not _is_host(host) or (colon and not re.fullmatch(_PORT, port)) or int(port or 0) >= 1 << 16:
        raise ValueError(
            f"{text!r} is no address: write HOST or HOST:PORT, such as 10.0.0.5 or 10.0.0.5:{DEFAULT_PORT}"
        )
    return Address(host, int(port) if port else DEFAULT_PORT)


def _is_version_6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _is_host(text: str) -> bool:
    """Whether it could be a name or a number; what is none by its form, the resolver refuses in words of its own."""
    try:
        text.encode("idna")
    except UnicodeError:  # a label that is empty, or too long
        return False
    return re.fullmatch(_HOST, text) is not None


def bound(address: Address) -> socket.socket:
    """A socket that listens there.

    Raises
    ------
    WorkerError
        It cannot: the port is taken, the address is not this host's.
    """
    try:
        family, _, _, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.create_server(where[:2], family=family, backlog=_BACKLOG)
    except socket.gaierror as error:
        raise WorkerError(f"{address.host!r} does not resolve to an address: {error.strerror}") from None
    except OSError as error:
        raise WorkerError(_why_not(address, error)) from None
    close_in_forks(listening)
    return listening


def _why_not(address: Address, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            pid = _listener_at(address.port)
            if pid == os.getpid():
                return (
                    f"port {address.port} is taken by this very process, another jmr.Cluster say: close() that one, or "
                    f"take another port, such as {Address(address.host, address.port + 1)}"
                )
            who = "another process" if pid is None else f"process {pid}{_command_of(pid)}"
            return (
                f"port {address.port} is taken by {who}: have that one stop listening (%jmr stop, if it is another "
                f"kernel of yours), or take another port, such as {Address(address.host, address.port + 1)}"
            )
        case errno.EADDRNOTAVAIL:
            return f"{address.host} is no address of this host: write one that is, or 0.0.0.0 for all of them"
        case errno.EACCES:
            return f"you may not listen at port {address.port}: take one from 1024 on"
    return f"cannot listen at {address}: {error.strerror}"


def _listener_at(port: int) -> int | None:
    """The process of this user that listens at a port, as far as that can be seen."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            if any(os.readlink(file) in sockets for file in folder.iterdir()):
                return int(folder.parent.name)
        except OSError:  # it has ended, or is somebody else's
            continue
    return None


def _listening_inodes(port: int) -> list[str]:
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = [line.split() for line in Path(table).read_text().splitlines()[1:]]
        except OSError:
            continue
        found += [row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port]
    return found


def _command_of(pid: int) -> str:
    try:
        return f" ({Path(f'/proc/{pid}/comm').read_text().strip()})"
    except OSError:
        return ""
