"""The Image API: resources, views and answers."""
