"""ONNX files that somebody else exported."""
