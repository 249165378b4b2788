"""Features in and out: files made elsewhere become shards, and shards become files."""
