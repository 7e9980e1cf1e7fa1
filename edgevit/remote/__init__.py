"""Building and measuring on another machine, over ssh."""
