"""The command line: ``hmn``."""

from hmn.cli.app import main as main
