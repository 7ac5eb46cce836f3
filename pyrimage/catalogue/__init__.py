"""What is known about images, and the rules: no HTTP, no spelling of a header, and SQL in one room of its own."""
