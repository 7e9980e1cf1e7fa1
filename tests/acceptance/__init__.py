"""The whole line on real weights and images, and engines under every instruction set."""
