"""transformers' folders."""
