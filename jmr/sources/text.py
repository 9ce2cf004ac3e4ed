r"""How bytes become text: encoding, errors and newline, as `open` has them; with the place of what cannot be decoded.

An encoding is plain if its bytes can be cut behind any line end: there, "\n" and "\r" are bytes of their own, ASCII is
ASCII, and no state goes from one line to the next. UTF-8 and those of one byte are; UTF-16 and ISO-2022-JP are not.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jmr.errors import ArgumentTypeError, ArgumentValueError, SourceError, describe

__all__ = ["Text", "encoding_at", "translated"]

_ASCII = bytes(range(128))
#: Of more than one byte a character: in none of them is a line end part of another character.
_PLAIN = {"utf-8", "utf-8-sig", "gbk", "gb2312", "gb18030", "big5", "big5hkscs", "cp932", "cp949", "cp950", "euc_jp"}
_PLAIN |= {"euc_jis_2004", "euc_jisx0213", "euc_kr", "shift_jis", "shift_jis_2004", "shift_jisx0213"}
_NEWLINES = (None, "", "\n", "\r", "\r\n")


@dataclass(frozen=True, slots=True)
class Text:
    """Encoding (None: bytes stay bytes), errors and newline."""

    encoding: str | None
    errors: str = "strict"
    newline: str | None = None

    @classmethod
    def checked(cls, encoding: Any, errors: Any, newline: Any) -> Text:
        """Refuse what `open` would refuse."""
        if encoding is None:
            if newline is not None:
                raise ArgumentValueError("newline is for text: leave it out where encoding=None, which gives bytes")
            return cls(None)
        for option, value in (("encoding", encoding), ("errors", errors)):
            if not isinstance(value, str):
                raise ArgumentTypeError(f"{option} must be a str, not {describe(value)} ({type(value).__name__})")
        try:
            codec = codecs.lookup(encoding)
            codecs.lookup_error(errors)
        except LookupError as error:
            raise ArgumentValueError(f"encoding={encoding!r}, errors={errors!r}: {error}") from None
        if not codec._is_text_encoding:
            raise ArgumentValueError(f"encoding={encoding!r} is not for text; leave bytes as they are: encoding=None")
        if newline not in _NEWLINES:
            raise ArgumentValueError(f"newline must be None, '', '\\n', '\\r' or '\\r\\n', not {describe(newline)}")
        return cls(codec.name, errors, newline)

    @property
    def is_plain(self) -> bool:
        """Whether bytes in it can be cut behind any line end."""
        return self.encoding is None or _is_plain(self.encoding)

    def whole(self, data: bytes) -> str | bytes:
        """What `open(...).read()` gives. Raises SourceError at what cannot be decoded."""
        if self.encoding is None:
            return data
        text = self.decoded(data)
        return translated(text) if self.newline is None and "\r" in text else text

    def decoded(self, data: bytes, offset: int = 0) -> str:
        """Text with its line ends as they are; `offset` is where the data begin.

        Raises
        ------
        SourceError
            Says which byte cannot be decoded.
        """
        assert self.encoding is not None
        try:
            return data.decode(encoding_at(self.encoding, offset), self.errors)
        except UnicodeDecodeError as error:
            at, byte = offset + error.start, error.object[error.start]
            raise SourceError(
                f"byte {at} (0x{byte:02x}) is no {self.encoding}: {error.reason}. Pass the file's encoding=, or "
                "errors='replace'."
            ) from error
        except (UnicodeError, LookupError) as error:  # some codecs have no more to say
            raise SourceError(f"it is no {self.encoding}: {error}") from error


def encoding_at(encoding: str, offset: int) -> str:
    """The encoding of a part of a file: only at its very beginning is a mark of UTF-8 one."""
    return "utf-8" if offset and encoding == "utf-8-sig" else encoding


def translated(text: str) -> str:
    r"""With "\n" for every line end."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


@lru_cache
def _is_plain(encoding: str) -> bool:
    if encoding in _PLAIN:
        return True
    if encoding.startswith(("utf", "iso2022", "hz", "punycode", "idna", "unicode_escape", "raw_unicode_escape")):
        return False
    try:  # of one byte a character?
        upper = bytes(range(128, 256)).decode(encoding, "replace")
        return _ASCII.decode(encoding) == _ASCII.decode("ascii") and len(upper) == 128 and not {"\n", "\r"} & {*upper}
    except UnicodeError:
        return False
