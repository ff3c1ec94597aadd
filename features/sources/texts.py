"""The text of a file whose encoding nobody told.

UTF-8 is the rule. Bytes that are not UTF-8 become lone surrogates (PEP 383), so that ``undecoded`` finds the lines
that hold them; a file that plainly is of an older encoding is read as Windows-1252.
"""

import gzip
import re
import zlib
from pathlib import Path

from attune.errors import DataContractError

BAD_LINES = 0.01
"""Up to this share of all lines (or a tenth of those with letters beyond ASCII) bad bytes are damage in UTF-8."""

_WINDOWS = {byte: bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(0x80, 0xA0)}
_UNDECODED = re.compile("[\udc80-\udcff]")
_BEYOND_ASCII = re.compile("[^\x00-\x7f]")


def read_text(path: Path, gzipped: bool) -> str:
    """The whole text; raises DataContractError for what cannot be unpacked or is no text (NUL near the start)."""
    try:
        content = gzip.decompress(path.read_bytes()) if gzipped else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataContractError(f"{path}: not a readable {'gzip ' if gzipped else ''}file ({error})") from error
    if b"\0" in content[:4096]:
        raise DataContractError(
            f"{path}: binary content; a CSV, CSV.gz or Parquet file is expected (save text of 16 bits as UTF-8)"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("utf-8-sig", "surrogateescape")
    return text if _damaged(text) else _windows(content)


def undecoded(words: str) -> bool:
    """Whether bytes stand in there that are not UTF-8."""
    return not words.isascii() and _UNDECODED.search(words) is not None


def shown(words: str) -> str:
    """The text with bytes that are not UTF-8 as escapes."""
    return words.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _damaged(text: str) -> bool:
    """Whether this is UTF-8 with some bad lines, and not another encoding."""
    lines = text.splitlines()
    bad = sum(map(undecoded, lines))
    beyond = sum(_BEYOND_ASCII.search(line) is not None for line in lines if not line.isascii())
    return bad <= BAD_LINES * len(lines) or bad <= (beyond - bad) / 10


def _windows(content: bytes) -> str:
    """Windows-1252, where its five unassigned bytes stand for themselves as in Latin-1."""
    return content.decode("latin-1").translate(_WINDOWS)
