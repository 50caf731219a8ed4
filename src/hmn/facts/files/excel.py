"""Rows from a sheet of a spreadsheet: Excel (.xlsx, .xlsb, .xls) or OpenDocument (.ods)."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any

from hmn.errors import DataError, MissingPackageError, expected_one_of
from hmn.facts.files.layout import Layout, Row, layout_by_header
from hmn.facts.files.raw.packed import MOST_RATIO, UNCHECKED
from hmn.facts.files.separators import note_titles, titles_above
from hmn.facts.files.source import Source
from hmn.facts.ids import one_form

if TYPE_CHECKING:
    from python_calamine import CalamineWorkbook

SUFFIXES = {".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"}
"""Suffixes of spreadsheets."""


def read_sheet(source: Source, layouts: Sequence[Layout]) -> list[Row]:
    """Read the sheet that the source names, or the first that names the columns of a layout, or the first.

    Numbers, dates and truth values are given as text. Rows and columns without any value are left out, and
    titles above the header.

    Raises:
        MissingPackageError: python-calamine is missing.
        DataError: the file cannot be read; it has no such sheet, or none with values.
    """
    with _readable(source):
        workbook = _opened(source)
        sheets = _sheets(source, workbook)
        tables = {name: table for name in sheets if (table := list(_rows(workbook, name)))}
    titles = {name: titles_above([cells for _, cells in table]) for name, table in tables.items()}
    if not tables:
        raise DataError(f"{source.path}: no rows, expected a sheet with one row per line: check the file")
    named = (
        name
        for name, table in tables.items()
        if layout_by_header(table[titles[name]][1], layouts) is not None
    )
    chosen = next(named, next(iter(tables)))
    if len(tables) > 1:
        shown = ", ".join(map(repr, tables))
        source.note(f"{source.path}: read the sheet {chosen!r} of {shown} (--sheet names that of the facts)")
    note_titles(source, tables[chosen][: titles[chosen]])
    return _without_empty_columns(tables[chosen][titles[chosen] :])


def _opened(source: Source) -> CalamineWorkbook:
    try:
        import python_calamine
    except ImportError:
        raise MissingPackageError(
            f"{source.path}: reading spreadsheets needs python-calamine: pip install 'hmn[excel]', "
            "or export the sheet as CSV"
        ) from None
    data = source.held
    _check_size(source, data)
    return python_calamine.load_workbook(io.BytesIO(data))


@contextmanager
def _readable(source: Source) -> Iterator[None]:
    """Turn any failure of the package, which has many names for them, into a ``DataError``."""
    try:
        yield
    except (DataError, MissingPackageError):
        raise
    except Exception as error:
        raise DataError(
            f"{source.path}: cannot be read as a spreadsheet ({error}): open it and export the sheet as CSV"
        ) from None


def _check_size(source: Source, data: bytes) -> None:
    """Refuse an archive that unpacks to far more than a table would."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return
    try:
        size = sum(part.file_size for part in zipfile.ZipFile(io.BytesIO(data)).infolist())
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        return  # which calamine reports
    if size > UNCHECKED and size > MOST_RATIO * len(data):
        raise DataError(
            f"{source.path}: it unpacks to more than {MOST_RATIO} times its size, expected a table: "
            "export the sheet as CSV"
        )


def _sheets(source: Source, workbook: CalamineWorkbook) -> list[str]:
    """The sheets to choose from: the one that the source names, or all that are visible."""
    from python_calamine import SheetVisibleEnum

    names = workbook.sheet_names
    if source.sheet is None:
        visible = [each.name for each in workbook.sheets_metadata if each.visible == SheetVisibleEnum.Visible]
        return visible or names
    wanted = one_form(source.sheet)
    named = [name for name in names if one_form(name) == wanted]
    if not named:
        raise DataError(
            f"{source.path}: there is no sheet {source.sheet!r}, {expected_one_of(source.sheet, names)}"
        )
    return named[:1]


def _rows(workbook: CalamineWorkbook, sheet: str) -> Iterator[Row]:
    for number, row in enumerate(workbook.get_sheet_by_name(sheet).to_python(skip_empty_area=False), 1):
        cells = [_text(cell) for cell in row]
        if any(cells):
            yield number, cells


def _without_empty_columns(table: list[Row]) -> list[Row]:
    used = [any(cells) for cells in zip(*(cells for _, cells in table), strict=True)]
    return [
        (number, [cell for cell, is_used in zip(cells, used, strict=True) if is_used])
        for number, cells in table
    ]


def _text(cell: Any) -> str:
    """A cell as text, as a spreadsheet shows it where no format says otherwise."""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() else f"{cell:.15g}"
    if isinstance(cell, datetime):
        is_day = cell.time() == time()
        return cell.date().isoformat() if is_day else cell.isoformat(" ", "seconds")
    if isinstance(cell, (date, time)):
        return cell.isoformat()
    return str(cell).replace("\0", "").strip()
