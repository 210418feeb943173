"""What tortie puts on a host and takes away again: `tortiectl host init` and `host remove`."""
