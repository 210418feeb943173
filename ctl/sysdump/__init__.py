"""sysdump: an archive that tells whoever helps how things are, and no secret."""
