"""What the names of nodes of a graph begin with that was joined to another's end."""

CARRIED = "head/"
