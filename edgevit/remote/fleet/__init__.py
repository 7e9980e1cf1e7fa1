"""Several devices: which there are, what state each is in, and a bundle on all of them."""
