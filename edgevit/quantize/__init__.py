"""From a float graph to INT8 or FP8, and what each site costs."""
