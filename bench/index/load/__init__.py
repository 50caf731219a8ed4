"""What other processes do while systems are timed: none of them, or two that keep processors busy."""
