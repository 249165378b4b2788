"""What a method may see, and the methods."""
