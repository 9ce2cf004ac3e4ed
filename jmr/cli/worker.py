"""jmr-worker: this host's CPUs for a coordinator on another.

options, token ──> Joining.run ──> exit code
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jmr
from jmr.errors import TokenError
from jmr.launch.address import DEFAULT_PORT, Address, parsed_address
from jmr.launch.joining import ExitCode, Joining, join_over_stdio
from jmr.launch.local import default_slots
from jmr.launch.token import VARIABLE, parsed_token, token, token_path
from jmr.wire.far import MOST_SLOTS

__all__ = ["worker_main"]

_ABOUT = """\
Let the jobs of a notebook or script on another host use the CPUs of this one.

There, %jmr listen (or jmr.Cluster(listen=...), or jmr run --listen) shows the line to paste here. This command joins,
runs what comes, and when that coordinator is gone it waits for the next, until it is stopped.
"""
_NOTES = f"""\
Both hosts must hold the same token, since whoever holds it may run code as you: it is taken from --token-file, else
from the environment variable {VARIABLE}, else from ~/.config/jmr/token, else you are asked for it. Where the hosts
share a home directory there is nothing to do; otherwise copy that file once, and keep it readable by you alone.

Ctrl-C or SIGTERM: slots finish what they are at, for up to ten seconds, and what they do not finish runs elsewhere.

Memory: what the machine and its control groups allow is kept to; where nothing limits it, and something should, set
JMR_MEMORY_LIMIT to what all slots together may have, such as 16G.

exit code: 0 it was told to end, or with --once the coordinator has ended; 1 the worker is broken; 2 the command, or
JMR_MEMORY or JMR_MEMORY_LIMIT, makes no sense, or the name does not resolve; 3 no token, or not the coordinator's; 4
whoever listens there cannot be worked for: no jmr, another release of it, another version of Python; 5 with --once:
nobody listens there, or answers; 130 interrupted when asked for a token
"""


def worker_main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    n_slots = options.slots if options.slots is not None else default_slots()
    if not 1 <= n_slots <= MOST_SLOTS:
        parser.error(f"--slots must be from 1 to {MOST_SLOTS:,}, not {n_slots}")
    if options.over_ssh:
        return join_over_stdio(n_slots)
    if options.address is None:
        parser.error("where does the coordinator listen? jmr-worker HOST")
    try:
        address = parsed_address(options.address)
    except ValueError as error:
        parser.error(str(error))
    if not address.port:
        parser.error("port 0 is for whoever listens: write the one that the coordinator has shown")
    say = _Speaker(options.verbose)
    try:
        key = _token(address, options.token_file)
    except TokenError as error:
        say(str(error), 0)
        return ExitCode.TOKEN
    except KeyboardInterrupt:
        say("interrupted", 0)
        return ExitCode.INTERRUPTED
    token_now = partial(_token_now, options.token_file, is_of_file=VARIABLE not in os.environ)
    return Joining(address, key, token_now, n_slots, once=options.once, say=say).run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jmr-worker",
        description=_ABOUT,
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "address",
        metavar="HOST[:PORT]",
        nargs="?",
        help=f"where the coordinator listens; port {DEFAULT_PORT} if not said",
    )
    parser.add_argument("--slots", type=int, metavar="N", help="processes that work; one for each CPU if not said")
    parser.add_argument("--token-file", type=Path, metavar="F", help="a file with the token, readable by you alone")
    parser.add_argument("--once", action="store_true", help="end when the coordinator has ended, or if there is none")
    parser.add_argument("-v", "--verbose", action="store_true", help="say more, with times")
    parser.add_argument("--over-ssh", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"jmr {jmr.__version__}")
    return parser


def _token(address: Address, path: Path | None) -> bytes:
    """The token; on the coordinator's own host whoever comes first makes it, elsewhere somebody may be asked."""
    is_here = address.host in ("localhost", "127.0.0.1", "::1")
    try:
        return token(path, make=is_here)
    except TokenError:
        if path is not None or token_path().exists() or not sys.stdin.isatty():
            raise
    print(
        f"There is no token in {token_path()}. Copy that file from the coordinator's host, or paste what stands in it "
        "here (it will not be shown):",
        file=sys.stderr,
    )
    try:
        pasted = getpass.getpass("token: ")
    except EOFError:
        raise TokenError("no token, no work") from None
    return parsed_token(pasted.strip(), "what you have pasted")


def _token_now(path: Path | None, *, is_of_file: bool) -> bytes | None:
    """What the file says by now, if that is where the token is taken from."""
    if path is None and not is_of_file:
        return None
    try:
        return token(path, make=False)
    except TokenError:
        return None


class _Speaker:
    """Lines for the user, on stderr."""

    def __init__(self, is_verbose: bool) -> None:
        self._is_verbose = is_verbose

    def __call__(self, text: str, loudness: int) -> None:
        if loudness and not self._is_verbose:
            return
        when = f"{time.strftime('%H:%M:%S')} " if self._is_verbose else ""
        print(f"{when}jmr-worker: {text}", file=sys.stderr, flush=True)
