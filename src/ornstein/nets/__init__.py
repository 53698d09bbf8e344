"""Floor 1: networks `net(x, c, cond) -> x`. They know nothing of SDEs."""
