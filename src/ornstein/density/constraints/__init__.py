"""Maps from unconstrained coordinates to the supports of parameters."""
