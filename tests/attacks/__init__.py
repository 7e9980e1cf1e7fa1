"""Hostile bundles, and the code with which every runtime refuses each: ``answers.json``."""
