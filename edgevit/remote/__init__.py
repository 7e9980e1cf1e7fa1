"""Building and measuring on another machine, over ssh, and on many, with Ray."""
