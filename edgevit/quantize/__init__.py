"""From a float graph to one in INT8 or FP8, and what each site costs."""
