"""Checkpoints in the form of their publisher's own code."""
