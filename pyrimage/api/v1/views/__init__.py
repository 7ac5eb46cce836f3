"""Views: each reads its request, calls one method of the catalogue or of ``uploads``, and answers. Errors travel on."""
