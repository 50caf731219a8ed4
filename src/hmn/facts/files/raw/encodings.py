"""Which encoding a text file has, and reading it as UTF-8."""

from __future__ import annotations

import codecs
import re
import unicodedata
from pathlib import Path

from hmn.errors import DataError
from hmn.facts.files.raw.packed import ReadBytes

UTF_8 = "utf-8"
"""Encoding that files are expected to have."""
_MARKS = {
    codecs.BOM_UTF8: UTF_8,
    codecs.BOM_UTF32_LE: "utf-32",  # begins with the mark of UTF-16, so it comes first
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings, by the mark at the start of a file."""
_OTHERS = ("windows-1252", "windows-1251", "windows-1256", "gb18030", "big5", "cp932", "euc-kr")
"""Encodings that texts in some script have; all but the first are no encodings of Latin letters alone."""
_FOREIGN_WORD = re.compile(rb"[\x80-\xff]{3}")
"""Pattern of a run of bytes that Latin words with a few accents do not have."""
_MOSTLY_LETTERS = 0.9
"""Share of letters among the characters outside ASCII of a line that is read in the right encoding."""
_JAPANESE = {"HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}
"""Scripts that stand beside Chinese characters."""
_SAMPLE = 4096
"""Number of bytes by which UTF-16 without a mark is recognised."""
_MANY_NULS = 0.3
"""Share of NUL bytes at even or at odd places that UTF-16 has and no other text."""


def check_encoding(encoding: object) -> str | None:
    """The name of an encoding, or None.

    Raises:
        DataError: there is no such encoding.
    """
    if encoding is None:
        return None
    try:
        name = codecs.lookup(str(encoding)).name
        codecs.getincrementaldecoder(name)()
        "a".encode(name)  # refuses those that are no encodings of text
    except (LookupError, ValueError):
        raise DataError(
            f"encoding is {encoding!r:.80}, expected the name of one, such as windows-1252, utf-16 or gb18030"
        ) from None
    return name


def encoding_of(start: bytes, given: str | None, path: Path) -> str:
    """The encoding of a file, by its first bytes.

    Args:
        start: the first bytes, unpacked.
        given: the encoding of files that are not UTF-8.
        path: the file, for messages.

    Raises:
        DataError: the file is not UTF-8, and no encoding is given.
    """
    marked = next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)
    if marked == UTF_8:
        return UTF_8
    found = marked or _unmarked(start[:_SAMPLE])
    if found is not None:
        if given is None:
            new = path.with_name(f"{path.stem}-utf8{path.suffix}")
            raise DataError(
                f"{path}:1: it is in {found.upper()}, expected UTF-8: give encoding (--encoding {found}), or "
                f"convert it with 'iconv -f {found.upper()} -t UTF-8 {path} > {new}'"
            )
        return found if codecs.lookup(found).name[:6] == given[:6] else given
    if given is None or (not start.isascii() and _is_utf8(start)):
        return UTF_8
    return given


def as_utf8(read: ReadBytes, encoding: str, path: Path, *, is_cut: bool = False) -> ReadBytes:
    """Read a file in another encoding as UTF-8.

    Args:
        read: reads the file.
        encoding: its encoding.
        path: the file, for messages.
        is_cut: only a part is read, and the last character may be cut.

    Raises:
        DataError: later, from the reader: the file does not have this encoding.
    """
    if encoding == UTF_8:
        return read
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1

    def read_utf8(size: int) -> bytes:
        nonlocal line
        data = b""
        try:
            while not data:
                chunk = read(size)
                data = decoder.decode(chunk, final=not (chunk or is_cut)).encode()
                if not chunk:
                    break
        except UnicodeError as error:
            before = error.object[: error.start] if isinstance(error, UnicodeDecodeError) else b""
            line += before.decode(encoding, "ignore").count("\n")
            raise DataError(
                f"{path}:{line}: not {encoding} ({str(error).rpartition(': ')[2]}): give the encoding that "
                "the file has (--encoding)"
            ) from None
        line += data.count(b"\n")
        return data

    return read_utf8


def why_invalid(line: bytes, error: UnicodeDecodeError) -> str:
    """Say that a line is not UTF-8, and how it would read in the encodings that may be meant."""
    reason = f"invalid UTF-8 at byte {error.start + 1} of the line"
    readings = _readings(line) if _FOREIGN_WORD.search(line) else {}
    if readings:
        shown = ", ".join(f"{text!r} in {encoding}" for encoding, text in readings.items())
        return f"{reason}; it reads {shown}: give the encoding that is right, if one is (--encoding)"
    try:
        text = line.decode("windows-1252")
    except UnicodeDecodeError:
        return f"{reason}; if the file has another encoding, give it (--encoding gb18030, or another)"
    near = text[max(0, error.start - 12) : error.start + 12].strip()
    return (
        f"{reason}; in Windows-1252 it reads {near!r}: if that is right, give encoding "
        "(--encoding windows-1252)"
    )


def _readings(line: bytes) -> dict[str, str]:
    """The beginning of what a line says in each encoding in which it is letters of one script."""
    readings = {}
    for encoding in _OTHERS:
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError:
            continue
        foreign = [character for character in text if not character.isascii()]
        scripts = {
            unicodedata.name(character, "?").split()[0] for character in foreign if character.isalpha()
        }
        letters = sum(map(str.isalpha, foreign))
        if letters >= _MOSTLY_LETTERS * len(foreign) and len(scripts - _JAPANESE) <= 1:
            start = text.index(foreign[0])
            readings[encoding] = text[start : start + 12].strip()
    return readings


def _unmarked(sample: bytes) -> str | None:
    """Recognise UTF-16 without a mark, by the NUL in each of its ASCII characters."""
    half = len(sample) // 2
    if half < 4:
        return None
    if sample[1::2].count(0) > _MANY_NULS * half and not sample[::2].count(0):
        return "utf-16-le"
    if sample[::2].count(0) > _MANY_NULS * half and not sample[1::2].count(0):
        return "utf-16-be"
    return None


def _is_utf8(start: bytes) -> bool:
    """Whether bytes are UTF-8, of which the last character may be cut."""
    try:
        codecs.getincrementaldecoder(UTF_8)().decode(start)
    except UnicodeDecodeError:
        return False
    return True
