"""The JSON that the registry takes."""
