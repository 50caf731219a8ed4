"""``python -m hmn``: the command line, as ``torchrun -m hmn`` starts it."""

from hmn.cli.app import main

if __name__ == "__main__":
    main()
