"""``python -m bench.index.streaming``; see ``run``. Children import this file: it imports nothing."""

if __name__ == "__main__":
    from bench.index.streaming.run import main

    main()
