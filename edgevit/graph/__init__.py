"""An ONNX graph: what is in it, how it is cut, and how it is rewritten."""
