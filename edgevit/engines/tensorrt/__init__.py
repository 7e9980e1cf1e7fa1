"""Compiling for TensorRT and TensorRT-RTX, and reading what they fused."""
