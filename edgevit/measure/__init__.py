"""Latency, accuracy, parity and cold start of engines and bundles."""
