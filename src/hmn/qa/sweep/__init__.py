"""Sweep: accuracy against reads for every search structure over one trained model."""
