"""Floor 0: mathematics on tensors. No networks, no files, no printing, no global random numbers."""
