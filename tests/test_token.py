"""The token that workers on other hosts are known by."""

from __future__ import annotations

from pathlib import Path

import pytest

from jmr.errors import TokenError
from jmr.launch.token import new_token, token, token_path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("JMR_TOKEN", raising=False)
    return tmp_path


def test_it_is_made_once_and_for_its_owner_alone(home: Path) -> None:
    first = token()
    assert (len(first), token()) == (32, first)
    assert token_path() == home / ".config" / "jmr" / "token"
    assert token_path().stat().st_mode & 0o777 == 0o600
    assert token_path().parent.stat().st_mode & 0o777 == 0o700
    assert token_path().read_text() == first.hex() + "\n"
    assert list(token_path().parent.iterdir()) == [token_path()]


def test_whoever_makes_it_second_takes_the_first() -> None:
    first = token()
    new_token(token_path(), replace=False)
    assert token() == first
    assert list(token_path().parent.iterdir()) == [token_path()]


def test_it_can_be_renewed() -> None:
    first = token()
    new_token()
    assert token() != first
    assert token_path().stat().st_mode & 0o777 == 0o600


def test_the_environment_comes_before_the_users_file_and_a_named_file_before_both(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JMR_TOKEN", "ab" * 32)
    assert token() == b"\xab" * 32
    assert not token_path().exists()
    new_token(home / "named")
    assert token(home / "named").hex() == (home / "named").read_text().strip()


@pytest.mark.parametrize("text", ["secret", "ab" * 31, "ab" * 33, "é" * 64])
def test_what_is_no_token_is_refused_and_not_shown(text: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JMR_TOKEN", text)
    with pytest.raises(TokenError, match="JMR_TOKEN holds no token: that is 64 hexadecimal digits") as caught:
        token()
    assert text not in str(caught.value)
    (home / "named").write_text(text)
    (home / "named").chmod(0o600)
    with pytest.raises(TokenError, match=r"the token file .*named holds no token") as caught:
        token(home / "named")
    assert text not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_can_read_is_refused(mode: int) -> None:
    token()
    token_path().chmod(mode)
    with pytest.raises(TokenError, match=r"others can read the token file .*chmod 600"):
        token()


def test_a_file_that_is_not_there_is_named(home: Path) -> None:
    with pytest.raises(TokenError, match=r"nowhere cannot be read: No such file or directory\. Copy it there"):
        token(home / "nowhere")


def test_a_file_that_cannot_be_written_is_named(home: Path) -> None:
    (home / ".config").write_text("")
    with pytest.raises(TokenError, match=r"the token file .*token cannot be written: (Not a directory|File exists)"):
        token()
