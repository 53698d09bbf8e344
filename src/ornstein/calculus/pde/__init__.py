"""One generator matrix on a grid: ``p' = p Q`` (Fokker-Planck), ``phi' = -Q phi`` (Kolmogorov), ``V
= -log phi`` (HJB)."""
