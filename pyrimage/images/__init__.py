"""The catalogue: what is known about images, over SQL here or over a registry server's HTTP."""
