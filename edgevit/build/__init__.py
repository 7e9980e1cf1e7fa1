"""The line from a checkpoint to a bundle, and its end on a device."""
