"""An image service in the manner of the first Glance, built on Pyramid."""

__version__ = "0.1.0"
