"""Comparisons of samplers: not part of the library. Run from the root of the repository; needs the
extra ``bench``."""
