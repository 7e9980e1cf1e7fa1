"""Files in the layouts of publishers, of random weights; the rooms of ``edgevit/checkpoints/published``."""
