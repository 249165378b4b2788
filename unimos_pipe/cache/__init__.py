"""What lies between the stages: identity, layout, shards, the store that reads them, and their care."""
