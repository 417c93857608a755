"""Tables of samples: .csv, .tsv and .jsonl files as lists of rows.

A .csv file is parted by commas (by tabs if its heading has them and no comma), and fields may be
quoted. A .tsv file is parted by tabs; quotes count only if they close before the next tab, so that
one at the beginning of a caption does not swallow the following rows. A row with more or fewer
fields than the heading is an error.
"""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from clipa_jax.data.sources import captions
from clipa_jax.errors import DataError
from clipa_jax.runtime import storage

SUFFIXES = (".csv", ".tsv", ".jsonl")
_LONGEST = 2**31 - 1  # bytes of a field; captions are cut later
_SPAN = 100  # lines of a quoted field
Row = dict[str, Any]


def read(path: str) -> list[Row]:
    """All rows of a table, by column; bytes that are not UTF-8 are kept as surrogates.

    A line that is not valid raises `DataError`, with its number.
    """
    text = captions.without_mark(storage.read(path)).decode("utf-8", "surrogateescape")
    suffix = path[path.rfind(".") :].lower()
    csv.field_size_limit(_LONGEST)
    try:
        return list({".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl}[suffix](text))
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None


def _csv(text: str) -> Iterator[Row]:
    heading = text.partition("\n")[0]
    delimiter = "\t" if "\t" in heading and "," not in heading else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    yield from _rows(_numbered(reader))


def _numbered(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Rows with the number of the line on which each begins."""
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise ValueError(
                f"line {line}: {error}; a field that contains quotation marks has to be quoted, "
                f"with each mark inside it doubled"
            ) from None
        if row is None:
            return
        yield line, row


def _tsv(text: str) -> Iterator[Row]:
    yield from _rows(_tab_rows(text.split("\n")))


def _tab_rows(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Rows with their line numbers. Quotes count only if they close before the next tab."""
    columns, begin = lines[0].count("\t") + 1, 0
    while begin < len(lines):
        end, row = begin + 1, lines[begin].removesuffix("\r").split("\t")
        for stop in range(begin + 1, min(begin + _SPAN, len(lines) + 1)):
            if '"' not in lines[begin]:
                break
            quoted = _unquoted("\n".join(lines[begin:stop]), columns)
            if quoted:
                end, row = stop, quoted
                break
        yield begin + 1, row
        begin = end


def _unquoted(text: str, columns: int) -> list[str]:
    """The fields of a row that may be quoted; none if its quotes do not close."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True))
    except csv.Error:
        return []
    plain = len(rows) == 1 and len(rows[0]) == columns and not any("\t" in x for x in rows[0])
    return rows[0] if plain else []


def _rows(numbered: Iterator[tuple[int, list[str]]]) -> Iterator[Row]:
    """Rows as dictionaries by the heading; blank lines are left out."""
    _, columns = next(numbered, (0, []))
    columns = [name.strip() for name in columns]
    if len(set(columns)) < len(columns):
        raise ValueError(f"line 1: a column occurs twice in {', '.join(columns)}")
    for number, values in numbered:
        if values in ([], [""]) and len(columns) != 1:
            continue
        if len(values) != len(columns):
            raise ValueError(
                f"line {number}: got {len(values)} fields, expected {len(columns)} as in the "
                f"heading: {', '.join(columns)}"
            )
        yield dict(zip(columns, values, strict=True))


def _jsonl(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number}: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"line {number}: expected an object, got {type(row).__name__}")
        yield row
