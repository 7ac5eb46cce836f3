"""The faces of the Image API."""
