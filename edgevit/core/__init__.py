"""Nouns that every room may use: target, recipe, engine, report."""
