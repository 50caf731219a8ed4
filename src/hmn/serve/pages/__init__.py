"""The pages that a browser shows, with their styles and scripts."""
