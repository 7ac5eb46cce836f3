"""Tokens over each database."""

from pyrimage.catalogue.testing import TokensConformance


class TestLocalTokens(TokensConformance):
    pass
