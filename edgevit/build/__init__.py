"""The line from a checkpoint to a bundle, and the one that finishes a portable bundle."""
