"""Latency, accuracy, parity and cold start, and the machine."""
