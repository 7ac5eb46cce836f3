"""Hashes of passwords: which are written, and which are read."""

import pytest

from pyrimage.identity.hashes import hash_password, is_hash, is_usable, verify

# Of "correct horse", by the crypt(3) of Debian 12 and openssl passwd. Apache's htpasswd -B writes $2y$.
OTHERS = {
    "bcrypt as Apache has it": "$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e",
    "bcrypt as OpenBSD had it": "$2a$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2",
    "openssl passwd -6": (
        "$6$abcdefgh$yIZAF3gQPvtKZO/9qOJKffAKKbtS3ef3qmwyugk4uWVjX8YZf/GV3A8SkFxEPY0T56CcilGrHKLffBsp6dLMG."
    ),
    "sha512-crypt with rounds": (
        "$6$rounds=1000$saltsalt$4GMtaIz3E1AdDi2SmCokEW0ehi.HdxNDcL3fGE1XXuzvo6kbx7UOloZKONqEk5H3JrQA4NOfU8BmqFPrpGqwA1"
    ),
}


@pytest.mark.parametrize("hashed", OTHERS.values(), ids=OTHERS)
def test_what_other_programs_have_hashed_is_verified(hashed: str) -> None:
    assert is_hash(hashed)
    assert verify("correct horse", hashed)
    assert not verify("correct house", hashed)


@pytest.mark.parametrize("password", ["12345678", "p" * 72, "é" * 36, "with: colon and  blanks ", "\u00a0" * 8])
def test_a_password_that_is_set_is_verified(password: str) -> None:
    hashed = hash_password(password)
    assert hashed.startswith("$2b$12$")
    assert is_hash(hashed)
    assert is_usable(password)
    assert verify(password, hashed)
    assert not verify(f"{password[:-1]}x", hashed)


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("1234567", "8 characters or more"),
        ("", "8 characters or more"),
        ("p" * 73, "up to 72 bytes"),
        ("é" * 37, "up to 72 bytes"),
        ("12345678\0", "no control characters"),
        ("12345678\n", "no control characters"),
        ("12345678\x85", "no control characters"),
        ("12345678\ud800", "UTF-8"),
    ],
    ids=repr,
)
def test_a_password_that_could_not_be_used_is_not_set(password: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        hash_password(password)


@pytest.mark.parametrize(
    "text",
    [
        *("", "plain text", "$2b$04$short", "$2b$12$" + "é" * 53, "$2b$99$" + "." * 53, "\0"),
        *("$1$salt$aaaaaaaaaaaaaaaaaaaaaa", "$apr1$salt$aaaaaaaaaaaaaaaaaaaaaa", "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="),
        *("rl.3StKT.4T8M", "$5$salt$" + "a" * 43, "$6$salt", "$6$salt$short", "$6$rounds=1$salt$" + "a" * 86),
    ],
)
def test_what_is_no_hash_or_of_another_kind_is_not_taken(text: str) -> None:
    assert not is_hash(text)
