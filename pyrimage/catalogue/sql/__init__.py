"""The catalogue over SQLAlchemy."""
