"""What a build measured and how it judged it, as plain data."""
