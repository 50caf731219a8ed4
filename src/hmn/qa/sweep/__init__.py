"""Accuracy against reads for every search structure over one trained model."""
