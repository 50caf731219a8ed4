"""Rows of a table that queries read, and what training gives back to them."""

from hmn._native.reading.rows import ByRow as ByRow
from hmn._native.reading.rows import by_row as by_row
from hmn._native.reading.rows import gathered as gathered
from hmn._native.reading.rows import row_products as row_products
from hmn._native.reading.rows import row_sums as row_sums
from hmn._native.reading.steps import Step as Step
from hmn._native.reading.steps import move_rows as move_rows
