"""Opening and running TensorRT's and TensorRT-RTX's plans."""
