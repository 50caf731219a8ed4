"""``python -m hmn.cli``."""

from hmn.cli.app import main

main()
