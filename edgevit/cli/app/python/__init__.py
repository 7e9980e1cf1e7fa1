"""The Python app, as a file that ruff and mypy read; :func:`edgevit.cli.app.write.write_app` copies it."""
