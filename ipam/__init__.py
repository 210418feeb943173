"""Who owns which address: blocks, the allocator and its RPC."""
