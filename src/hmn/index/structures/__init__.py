"""The search structures, one file for each."""
