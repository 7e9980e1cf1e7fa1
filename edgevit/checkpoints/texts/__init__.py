"""Labels as texts: what a checkpoint with a text tower makes of them, as a classifier's head."""
