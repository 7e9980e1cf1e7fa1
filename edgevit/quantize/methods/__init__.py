"""Methods that keep a quantised graph close to the float one, one a file; :mod:`edgevit.quantize` runs them in turn."""
