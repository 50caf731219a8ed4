"""``python -m bench.index``; see ``bench.index.run``. Children import this file: it imports nothing."""

if __name__ == "__main__":
    from bench.index.run import main

    main()
