"""The rows of a CSV file from its bytes. The encoding, the separator and the line ends are inferred from the file."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice

from limelight.errors import InputError

COLUMNS = 3
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars", " ": "spaces"}
_SAMPLE = 200  # rows from which the separator is inferred
_MARKS = (  # the longer ones first, since the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"), (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"), (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)  # fmt: skip
_NUMBER = re.compile(r"[+-]?([0-9]+[.,]?[0-9]*|[.,][0-9]+)([eE][+-]?[0-9]+)?")
_NOT_FINITE = {"nan", "inf", "infinity"}
_SAYS_SEPARATOR = re.compile(r'"?sep=([^\w".+-])"?', re.IGNORECASE)
_REMARK = re.compile(r"#(?![,;\t|])")  # "#" may also be the name of the first column, followed by a separator
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f]")
_BEGINNINGS = {b"PK\x03\x04": "a spreadsheet or an archive", b"\x1f\x8b": "compressed", b"%PDF": "a PDF"}

Row = tuple[int, list[str]]  # the line of the file on which it ends, and its cells


def decoded(data: bytes) -> tuple[str, str]:
    """The text of a file and the name of its encoding. Raises `InputError` if the file is not text."""
    for beginning, what in _BEGINNINGS.items():
        if data.startswith(beginning):
            raise InputError(f"The file is {what}, not text; save the table as CSV.")
    codec, name = _encoding(data)
    try:
        text = data.decode(codec)
    except UnicodeDecodeError:
        raise InputError(
            f"The file begins with the byte order mark of {name} but is not text in it; save it as CSV in UTF-8."
        ) from None
    if _NO_TEXT.search(text):
        raise InputError("The file is not text; save the table as CSV in UTF-8.")
    return text, name


def _encoding(data: bytes) -> tuple[str, str]:
    for mark, codec, name in _MARKS:
        if data.startswith(mark):
            return codec, name
    for start, codec in ((1, "utf-16-le"), (0, "utf-16-be")):
        if data and data[start::2].count(0) > len(data) // 4:
            return codec, "UTF-16"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        try:
            data.decode("cp1252")
        except UnicodeDecodeError:  # Windows-1252 leaves five bytes undefined
            return "latin-1", "Latin-1"
        return "cp1252", "Windows-1252"
    return "utf-8", "UTF-8"


def separator_of(text: str) -> tuple[str, int]:
    """The separator of the cells, and the number of lines to skip: 1 if the first line declares it (`sep=;`)."""
    first = text.lstrip(" \r\n").partition("\n")[0].partition("\r")[0]
    says = _SAYS_SEPARATOR.fullmatch(first)
    if says:
        return says[1], 1
    return max(SEPARATORS, key=lambda each: _fit(text, each)), 0


def _fit(text: str, separator: str) -> tuple[float, bool]:
    """A separator's score: the share of numeric cells in rows of the most frequent length; True if that length fits."""
    rows: list[list[str]] = []
    with suppress(InputError):  # for the separator that is chosen, `rows_of` raises it again
        rows = [cells for _, cells in islice(rows_of(text, separator, 0), _SAMPLE)]
    body = rows[1:] or rows  # the first row may hold names
    if not body:
        return 0.0, False
    ((length, _),) = Counter(map(len, body)).most_common(1)
    numbers = sum(sum(map(is_number, cells)) / length for cells in body if len(cells) == length)
    share = numbers / len(body) if length > 1 else 0.0
    return share, length in (COLUMNS, COLUMNS + 1)


def rows_of(text: str, separator: str, begin: int) -> Iterator[Row]:
    """The rows that are not blank, after `begin` lines and the comment lines that follow them, with any line ends."""
    lines: Iterator[str] = io.StringIO(text, newline=None)
    skipped = 0
    for line in lines:
        if not line.strip() or _REMARK.match(line):
            skipped += 1
        elif begin:
            begin, skipped = begin - 1, skipped + 1
        else:
            lines = chain([line], lines)
            break
    spaced = separator == " "
    lines = ((line.replace("\t", " ") if spaced else line).strip(" \n") + "\n" for line in lines)
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield skipped + reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as problem:
        row = skipped + reader.line_num
        raise InputError(
            f"The file is not CSV from row {row} on ({problem}); check for a quotation mark that is not closed."
        ) from None


def is_number(cell: str) -> bool:
    """True if the cell holds a number, with a decimal point or a comma, finite or not."""
    text = plain(cell)
    return _NUMBER.fullmatch(text) is not None or text.lstrip("+-").lower() in _NOT_FINITE


def plain(cell: str) -> str:
    """The cell with the ASCII minus sign in place of the typographic one."""
    return cell.replace("−", "-")
