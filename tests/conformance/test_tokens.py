"""Tokens over each database."""

from pyrimage.catalogue.interfaces import Tokens
from pyrimage.catalogue.testing import TokensConformance
from pyrimage.catalogue.testing.tokens import token


class TestLocalTokens(TokensConformance):
    def test_no_text_that_is_like_a_digest_finds_its_token(self, tokens: Tokens) -> None:
        self.added(tokens, token(1, digest="a" * 64))
        for text in ("A" * 64, "a" * 63, "a" * 65, f"{'a' * 64} ", "%", ""):
            assert tokens.find(text) is None
