"""A compiler: policies in, chains and sets out, and a verdict with its reason; no I/O at all."""
