"""The files of a checkpoint, read without running anything that lies in them."""
