"""Views: each reads its request, calls one method of the catalogue, and answers. Errors travel to ``web.py``."""
