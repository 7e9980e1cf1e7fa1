"""ONNX files that somebody else exported: read, brought to the canonical form, recognised.

:mod:`edgevit.foreign.file` refuses what cannot work, the passes of ``edgevit.passes.FOREIGN`` bring what is left to one
form, :mod:`edgevit.foreign.lift` recovers a canonical module from it, and :mod:`edgevit.foreign.answers` runs the file
itself, as the reference of everything that is built from it.
"""
