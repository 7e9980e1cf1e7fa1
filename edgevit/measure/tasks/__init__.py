"""Figures of depth, segmentation, detection and pose: against labels, and against the float model's answers."""
