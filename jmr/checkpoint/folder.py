"""The directory of a checkpoint: made, checked, locked, listed, removed.

    DIR/lock        whose lock says that a job uses it; tells who
    DIR/journal     what was kept
    DIR/run-3/...   files of the third job that ran here

What lies in it is unpickled, and pickle is code: so nobody else may be able to write there.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import weakref
from collections.abc import Iterable, Iterator

from jmr.checkpoint.journal import Entry, read_journal
from jmr.checkpoint.ledger import Ledger
from jmr.errors import ArgumentValueError

__all__ = ["Folder", "contents", "is_checkpoint", "remove", "user_of"]

_LOCK, _JOURNAL, _NEW_JOURNAL = "lock", "journal", "journal.new"
_MARK = b"jmr checkpoint\n"
_RUN = re.compile(r"run-\d+")
#: Files that map and reduce tasks have left there, and what they set aside.
_FILE = re.compile(r"(map|reduce|failures)-[\w-]+")


class Folder:
    """A checkpoint's directory, which is this job's alone until `close`.

    Parameters
    ----------
    path
        Of the directory. It is made if need be; its parent must be there.

    Raises
    ------
    ArgumentValueError
        It cannot be made, or read; others can write there; it holds something else; a job uses it.
    """

    def __init__(self, path: str) -> None:
        #: As the user wrote it, and from the root.
        self.name = path
        self.path = os.path.abspath(os.path.expanduser(path))
        _make(self.path, path)
        _check(self.path, path)
        self._lock = _locked(self.path, path)
        _held.add(self)

    @property
    def journal(self) -> str:
        """The journal's path."""
        return os.path.join(self.path, _JOURNAL)

    def read(self) -> tuple[list[Entry], int]:
        """What the journal says, and how many of its lines could not be believed; nothing if there is none."""
        try:
            return read_journal(_content(self.journal))
        except OSError as error:
            raise ArgumentValueError(f"checkpoint={self.name!r} cannot be read: {error}") from error

    def last_run(self) -> int:
        """The greatest number of a run that has a directory here, whatever the journal says; 0 if there is none."""
        return max((int(name[4:]) for name in os.listdir(self.path) if _RUN.fullmatch(name)), default=0)

    def keep_only(self, paths: Iterable[str]) -> None:
        """Remove the files of all runs but these, which are named from the directory on."""
        kept = set(paths)
        for path in _files(self.path):
            if os.path.relpath(path, self.path) not in kept:
                os.unlink(path)
        for directory in _run_directories(self.path):
            with contextlib.suppress(OSError):  # there is still something in it
                os.rmdir(directory)

    def close(self) -> None:
        """Let others use it; harmless the second time."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


#: Folders of this process. A child that it forks has their locks too, and would keep them when this process is gone.
_held: weakref.WeakSet[Folder] = weakref.WeakSet()


def _close_held() -> None:
    for folder in list(_held):
        folder.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_held)


def _make(path: str, name: str) -> None:
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
            return
        if not os.path.isdir(path):
            raise ArgumentValueError(f"checkpoint={name!r} is a file: name a directory, which may be a new one")
    except FileNotFoundError as error:
        raise ArgumentValueError(
            f"checkpoint={name!r} cannot be made: there is no directory {os.path.dirname(path)!r}; make it first"
        ) from error
    except OSError as error:
        raise ArgumentValueError(
            f"checkpoint={name!r} cannot be made: {os.path.dirname(path)}: {error.strerror}"
        ) from error


def _check(path: str, name: str) -> None:
    """Refuse what is not only ours to write, or holds what no job has put there."""
    about = os.stat(path)
    if about.st_uid != os.geteuid():
        raise ArgumentValueError(
            f"checkpoint={name!r} belongs to {user_of(about.st_uid)}: what a checkpoint keeps can run any code, so use "
            "a directory of your own"
        )
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ArgumentValueError(
            f"others can write to checkpoint={name!r}, and what a checkpoint keeps can run any code: chmod 700 it, "
            "unless somebody has put something there"
        )
    try:
        is_ours = is_checkpoint(path) or set(os.listdir(path)) <= {_LOCK}
        if is_ours:
            os.chmod(path, 0o700)
    except OSError as error:
        raise ArgumentValueError(f"checkpoint={name!r} cannot be read: {error}") from error
    if not is_ours:
        raise ArgumentValueError(
            f"checkpoint={name!r} is no checkpoint, and not empty: name a new directory, or an empty one"
        )


def user_of(uid: int) -> str:
    """A user's name, or number."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def is_checkpoint(path: str) -> bool:
    """Whether a directory is one that a job has made its checkpoint."""
    return _content(os.path.join(path, _LOCK), len(_MARK)) == _MARK


def _locked(path: str, name: str) -> int:
    """Take the lock; returns its descriptor."""
    import fcntl  # not on Windows, where the inline engine must work all the same

    descriptor, text = -1, _MARK + _user().encode()
    try:
        descriptor = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.fstat(descriptor).st_nlink:  # whoever had it has removed the checkpoint
            raise BlockingIOError
        os.pwrite(descriptor, text, 0)
        os.ftruncate(descriptor, len(text))
    except BlockingIOError:
        os.close(descriptor)
        raise ArgumentValueError(
            f"checkpoint={name!r} is in use, by {_told_user(path)}: two jobs cannot share one; wait, or name another"
        ) from None
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
        raise ArgumentValueError(f"checkpoint={name!r} cannot be locked: {error}") from error
    return descriptor


def _user() -> str:
    return f"{os.getpid()} {socket.gethostname()}"


def _told_user(path: str) -> str:
    """Who has the lock, as far as that is known."""
    said = _content(os.path.join(path, _LOCK)).removeprefix(_MARK).decode(errors="replace").split()
    if len(said) != 2:
        return "somebody else"
    if said == _user().split():
        return "another job of this very process"
    here = "" if said[1] == socket.gethostname() else f" on {said[1]}"
    return f"process {said[0]}{here}"


def _content(path: str, most: int = -1) -> bytes:
    """What is in a file; nothing if it is not there."""
    try:
        with open(path, "rb") as file:
            return file.read(most)
    except FileNotFoundError:
        return b""


def _run_directories(path: str) -> list[str]:
    return [os.path.join(path, name) for name in sorted(os.listdir(path)) if _RUN.fullmatch(name)]


def _files(path: str) -> Iterator[str]:
    """What tasks have left."""
    for directory in _run_directories(path):
        for name in sorted(os.listdir(directory)):
            if _FILE.fullmatch(name):
                yield os.path.join(directory, name)


def contents(path: str) -> tuple[Ledger, int, str | None]:
    """What a checkpoint has: what its journal says, how many bytes of files, and who uses it; for whoever only looks.

    Raises
    ------
    ArgumentValueError
        It is none.
    """
    _check_is_one(path)
    ledger = Ledger(read_journal(_content(os.path.join(path, _JOURNAL)))[0])
    n_bytes = 0
    for file in _files(path):
        with contextlib.suppress(FileNotFoundError):  # it was removed right now
            n_bytes += os.stat(file).st_size
    return ledger, n_bytes, _told_user(path) if _is_locked(path) else None


def _check_is_one(path: str) -> None:
    try:
        if is_checkpoint(path):
            return
    except OSError as error:
        raise ArgumentValueError(f"{path} cannot be read: {error.strerror}") from error
    raise ArgumentValueError(f"{path} is no checkpoint")


def _is_locked(path: str) -> bool:
    import fcntl

    descriptor = os.open(os.path.join(path, _LOCK), os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def remove(path: str) -> bool:
    """Remove what jobs have put into a checkpoint, and the directory, if nothing else is in it; whether it is gone.

    Raises
    ------
    ArgumentValueError
        It is none; a job uses it; it is another user's.
    """
    _check_is_one(path)
    folder = Folder(path)
    try:
        folder.keep_only(())
        for name in (_NEW_JOURNAL, _JOURNAL, _LOCK):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(path, name))
        with contextlib.suppress(OSError):  # there is something else in it
            os.rmdir(path)
    finally:
        folder.close()
    return not os.path.exists(path)
