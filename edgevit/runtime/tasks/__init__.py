"""Answers of whole models: from an engine's outputs to depth, classes, boxes or poses in the image's own pixels."""
