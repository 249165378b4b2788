"""Stage one: encoder, images, encoding, writing."""
