"""The paste server ``egg:pyrimage#server``: waitress, changed for large uploads and downloads.

README.md in this directory says what is changed, why, and what the application can rely on: the keys of its environ,
and the errors that ``wsgi.input`` raises. Nothing here imports the rest of pyrimage.
"""
