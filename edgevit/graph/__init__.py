"""An ONNX graph: its contents, its cuts and its rewrites."""
