"""The token: 32 random bytes that every coordinator and every worker of one user hold, and nobody else.

    JMR_TOKEN, a file that was named, or ~/.config/jmr/token ──token()──> 32 bytes
                                                  └── made by whoever needs it first

Where hosts share a home directory nothing needs to be copied. It is written as 64 hexadecimal digits, readable by its
owner alone. It must never be an argument of a command, since anybody on the host can read those, nor be shown.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from jmr.errors import TokenError
from jmr.worker.surroundings import TOKEN_VARIABLE

__all__ = ["VARIABLE", "new_token", "parsed_token", "token", "token_path"]

_N_BYTES = 32
#: The environment variable.
VARIABLE = TOKEN_VARIABLE


def token_path() -> Path:
    """Where a user's token lies."""
    return Path.home() / ".config" / "jmr" / "token"


def token(path: Path | None = None, *, make: bool = True) -> bytes:
    """The token of this user: from the file, if one is named; else from JMR_TOKEN; else from the user's own file.

    The user's own file is made if there is none and `make` says so.

    Raises
    ------
    TokenError
        There is none where it should be, it is no token, or others can read the file.
    """
    if path is not None:
        return _read(path)
    if text := os.environ.get(VARIABLE):
        return parsed_token(text, f"the environment variable {VARIABLE}")
    path = token_path()
    if make and not path.exists():
        new_token(path, replace=False)
    return _read(path)


def new_token(path: Path | None = None, *, replace: bool = True) -> None:
    """Make a new token; workers that hold the old one are not let in any more.

    With `replace` False, one that somebody else has made meanwhile stays.

    Raises
    ------
    TokenError
        The file cannot be written.
    """
    path = token_path() if path is None else path
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_N_BYTES) + "\n")
        if replace:
            draft.replace(path)
        else:
            with contextlib.suppress(FileExistsError):  # whoever comes first: all see a whole token, and the same
                os.link(draft, path)
    except OSError as error:
        raise TokenError(f"the token file {path} cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def _read(path: Path) -> bytes:
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            _check_private(path, os.fstat(file.fileno()))
            return parsed_token(file.read(1024), f"the token file {path}")
    except OSError as error:
        raise TokenError(
            f"the token file {path} cannot be read: {error.strerror}. Copy it there from the host that the notebook "
            "runs on, and only you may be able to read it: chmod 600"
        ) from error


def _check_private(path: Path, found: os.stat_result) -> None:
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise TokenError(
            f"others can read the token file {path}, and whoever holds the token can run code as you. Make a new one: "
            f"delete the file; if you are sure that nobody has read it: chmod 600 {path}"
        )
    if found.st_uid != os.geteuid():
        raise TokenError(f"the token file {path} belongs to another user (number {found.st_uid}), who could change it")


def parsed_token(text: str, where: str) -> bytes:
    """The token that somebody has written, and where. Raises TokenError."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != _N_BYTES:
        raise TokenError(f"{where} holds no token: that is {2 * _N_BYTES} hexadecimal digits")
    return found
