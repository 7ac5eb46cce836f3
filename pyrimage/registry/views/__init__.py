"""Views: each reads its JSON, calls one method of the catalogue, and answers. Errors travel on."""
