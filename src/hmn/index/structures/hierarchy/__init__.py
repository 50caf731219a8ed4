"""Groups of cells by direction, in each of which cells lie by falling length."""
