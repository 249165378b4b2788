"""Stage one: encoders, image loading, encoding, shard writing."""
