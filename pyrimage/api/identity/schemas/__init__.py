"""What the identity calls take."""
