"""What a file holds before it is a table: bytes, unpacked, as lines of text in UTF-8."""
