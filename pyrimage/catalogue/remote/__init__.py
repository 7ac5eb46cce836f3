"""The catalogue over a registry server's HTTP, for API servers that keep no database. Source: docs/registry-api.md."""
