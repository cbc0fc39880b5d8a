# SPDX-License-Identifier: Apache-2.0
"""Signed notes, checkpoints and keys: published vectors and malformed input."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import (
    Checkpoint,
    SigningKey,
    VerifierKey,
    open_note,
    read_unverified,
    verify_note,
)
from ledger.errors import FormatError, KeyFileError, SignatureError
from ledger.merkle import leaf_hash
from ledger.note import MAX_NOTE_BYTES, Note

# The example of the C2SP signed-note specification.
SPEC_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnag"
    "v1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
# A head of the public Go checksum database, a checkpoint in daily use.
GO_KEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
GO_NOTE = (
    "go.sum database tree\n6476701\nmb8QLQIs0Z0yP5Cstq6guj87oXWeC9gEM8oVikmm9Wk=\n\n"
    "\u2014 sum.golang.org Az3grsLX85Gz+s1SiTbgkuqxgItqFq7gsMUEyVnrsa9LM7Us9S+1xbFIGu9"
    "5949rj4nPRYfvimWEPWL+o3GeoWwOoAw=\n"
)
# Key and note of the reference implementation's own tests; Ed25519 is deterministic,
# so that signing must give the very same note.
NEUMANN_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
NEUMANN_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NEUMANN_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
NEUMANN_NOTE = (
    f"{NEUMANN_TEXT}\n\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZIn"
    "NIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)

KEY = SigningKey.generate("example.com/log")
HEAD = Checkpoint("example.com/log", 7, leaf_hash(b"root"))
NOTE = KEY.sign(HEAD)


def test_the_note_of_the_specification_verifies() -> None:
    """The example of C2SP signed-note is accepted under its key."""
    note = Note.parse(SPEC_NOTE)
    verify_note(note, VerifierKey.parse(SPEC_KEY))
    assert note.text == "This is an example message.\n"


def test_a_checkpoint_of_a_public_log_opens() -> None:
    """A real checkpoint opens under its published key, origin and name differing."""
    head = open_note(GO_NOTE, VerifierKey.parse(GO_KEY))
    assert (head.origin, head.size) == ("go.sum database tree", 6476701)
    assert head.root.hex().startswith("99bf102d")


def test_signing_gives_the_published_note() -> None:
    """The reference implementation's key signs its text into its note, byte by byte."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.from_private_bytes(NEUMANN_SEED)
    key = SigningKey("PeterNeumann", private)
    assert str(key.verifier) == NEUMANN_KEY
    assert key.sign_text(NEUMANN_TEXT) == NEUMANN_NOTE


@pytest.mark.parametrize("vkey", [SPEC_KEY, GO_KEY, NEUMANN_KEY])
def test_verifier_keys_read_back_as_they_were(vkey: str) -> None:
    """Published vkeys parse and are written as the same text."""
    key = VerifierKey.parse(f" {vkey}\n")
    assert key.format() == vkey


@given(st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_a_signed_checkpoint_opens_again(size: int, root: bytes) -> None:
    """What was signed is what a verifier gets."""
    head = Checkpoint("example.com/log", size, root)
    assert open_note(KEY.sign(head), KEY.verifier) == head


@given(st.integers(0, len(NOTE) - 1), st.characters(exclude_categories=["Cs"]))
def test_a_changed_character_never_opens(place: int, other: str) -> None:
    """A note in which any one character differs is refused."""
    changed = NOTE[:place] + other + NOTE[place + 1 :]
    if changed != NOTE:
        with pytest.raises((FormatError, SignatureError)):
            open_note(changed, KEY.verifier)


def test_another_key_of_the_same_name_does_not_open_it() -> None:
    """A note of a namesake is not ours, however it is called."""
    other = SigningKey.generate(KEY.name)
    with pytest.raises(SignatureError, match="not signed by"):
        open_note(NOTE, other.verifier)


def test_lines_of_strangers_are_ignored() -> None:
    """A witness may add its line of whatever algorithm without harm."""
    witness = SigningKey.generate("witness.example").sign(HEAD).rpartition("\n\n")[2]
    long = base64.b64encode(b"abcd" + b"x" * 2420).decode()
    assert open_note(NOTE + witness + f"\u2014 other {long}\n", KEY.verifier) == HEAD


def test_one_bad_line_of_our_key_spoils_the_note() -> None:
    """signed-note: a known key's failing signature rejects the whole note."""
    bad = base64.b64encode(KEY.verifier.key_id + b"x" * 64).decode()
    with pytest.raises(SignatureError, match="does not fit"):
        open_note(f"{NOTE}\u2014 {KEY.name} {bad}\n", KEY.verifier)


@pytest.mark.parametrize(
    "note",
    [
        "",
        "a\n",
        "a\n\n",
        "a\n\nb\n",
        NOTE.removesuffix("\n"),
        NOTE.replace("\u2014", "-"),
        NOTE + "\u2014 x AAAA\n",
        NOTE + "\u2014 x+y AAAAAAAA\n",
        NOTE + "\u2014 x AAAAAAA\n",
        NOTE + "\u2014 x AAAAAAB=\n",
        NOTE.replace("\n", "\r\n"),
        NOTE.replace("\n7\n", "\n07\n"),
        NOTE.replace("\n7\n", "\n-7\n"),
        NOTE.replace("\n7\n", "\n\u0667\n"),
        NOTE.replace("\n7\n", "\n99999999999999999999\n"),
        NOTE.replace("example.com/log\n7\n", "7\n"),
        NOTE + "\u2014 x AAAAAAAA\n" * 64,
        "x" * MAX_NOTE_BYTES + NOTE,
    ],
)
def test_what_is_no_checkpoint_is_refused(note: str) -> None:
    """Malformed notes end in FormatError and nothing else, key or no key."""
    with pytest.raises(FormatError):
        read_unverified(note)


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [
        ("", 1, b"x" * 32),
        ("a\nb", 1, b"x" * 32),
        ("a", -1, b"x" * 32),
        ("a", 1, b"x"),
        ("a", 1 << 63, b"x" * 32),
    ],
)
def test_impossible_checkpoints_cannot_be_made(
    origin: str, size: int, root: bytes
) -> None:
    """A checkpoint that could not be read back is never made."""
    with pytest.raises(FormatError):
        Checkpoint(origin, size, root)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "name",
        "name+00000000",
        SPEC_KEY.replace("530d903a", "530d903b"),
        SPEC_KEY.replace("530d903a", "530D903A"),
        SPEC_KEY.replace("example.com/foo", "example.com/bar"),
        SPEC_KEY.replace("+Aeky", "+Beky"),
        SPEC_KEY.replace("+Aeky", "+?eky"),
        SPEC_KEY[:-4],
        "name+00000000+",
        "na me" + SPEC_KEY.removeprefix("example.com/foo"),
    ],
)
def test_a_miscopied_verifier_key_is_refused(vkey: str) -> None:
    """A vkey with a typing error says so instead of failing every signature later."""
    with pytest.raises(FormatError):
        VerifierKey.parse(vkey)


def test_a_pem_keeps_key_and_name() -> None:
    """A key read from its PEM is the same verifier's, and may be given the name."""
    again = SigningKey.from_pem(KEY.to_pem())
    assert again.verifier == KEY.verifier
    bare = KEY.to_pem().partition(b"\n")[2]
    assert SigningKey.from_pem(bare, KEY.name).verifier == KEY.verifier
    with pytest.raises(KeyFileError, match="Name"):
        SigningKey.from_pem(bare)


def test_other_pems_are_refused() -> None:
    """Rubbish and keys of other algorithms end in KeyFileError."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for pem in (b"", b"rubbish", other, KEY.to_pem()[:80]):
        with pytest.raises(KeyFileError):
            SigningKey.from_pem(pem, "name")


def test_a_signing_key_never_prints_its_secret() -> None:
    """The text of a key object is its public half."""
    assert str(KEY.verifier) in repr(KEY)
    secret = KEY.to_pem().splitlines()[2].decode()
    assert secret not in repr(KEY)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u00a0b"])
def test_bad_key_names_are_refused(name: str) -> None:
    """A name that a signature line could not carry makes no key."""
    with pytest.raises(FormatError):
        SigningKey.generate(name)


@pytest.mark.parametrize("text", ["no newline", "", "bell\a\n"])
def test_texts_that_are_no_note_text_are_not_signed(text: str) -> None:
    """A text whose note would read back as another text is not signed."""
    with pytest.raises(FormatError):
        KEY.sign_text(text)


@pytest.mark.parametrize("code", [0xD800, 0xDC80, 0xDFFF])
def test_half_a_character_is_a_format_error(code: int) -> None:
    """JSON and command lines can bring one, and no bytes could have been signed."""
    key = SigningKey.generate("example.com/log")
    note = key.sign(Checkpoint("example.com/log", 1, leaf_hash(b"")))
    with pytest.raises(FormatError, match="Unicode"):
        open_note(chr(code) + note, key.verifier)
    with pytest.raises(FormatError, match="Unicode"):
        VerifierKey.parse(chr(code) + str(key.verifier))
