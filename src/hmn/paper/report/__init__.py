"""The report: tables, notes and plots."""
