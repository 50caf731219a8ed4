"""The benchmark's results as JSON, Markdown and plots."""
