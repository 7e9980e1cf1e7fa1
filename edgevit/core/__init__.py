"""Nouns and helpers that every room may use: what a target, a recipe, an engine and a report are."""
