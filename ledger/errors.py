# SPDX-License-Identifier: Apache-2.0
"""Every error that this package raises, named by the reaction it needs.

LedgerError
├─ FormatError             bytes or text are not what they claim: refuse the input
│  ├─ CanonicalFormError   a value has no canonical JSON form: mend the caller
│  ├─ UnknownSchemaError   written by another version: use a newer verifier
│  └─ BundleError          a file is no bundle at all: give another one
│     └─ DamagedBundleError  a bundle is unsafe or broken inside: trust nothing
├─ SignatureError          no good signature of the expected key: trust nothing
├─ ProofError              a Merkle proof does not lead to the root: tampered
├─ KeyFileError            a key file is missing, exposed or of another log
└─ BrokenLedgerError       the stored ledger contradicts itself: stop and verify
"""


class LedgerError(Exception):
    """Something about the evidence is wrong; the message is one clear sentence."""


class FormatError(LedgerError):
    """Input is not in the format it claims to be in."""


class CanonicalFormError(FormatError):
    """A value cannot be written as RFC 8785 canonical JSON."""


class UnknownSchemaError(FormatError):
    """Input names a schema or a tag that this version does not know."""


class BundleError(FormatError):
    """A file cannot be read as an evidence bundle."""


class DamagedBundleError(BundleError):
    """A bundle holds something unsafe, or a part of it is broken or missing."""


class SignatureError(LedgerError):
    """A note carries no valid signature of the key it was checked with."""


class ProofError(LedgerError):
    """A Merkle proof does not prove what it should."""


class KeyFileError(LedgerError):
    """A key file cannot be used as it lies on the disk."""


class BrokenLedgerError(LedgerError):
    """The stored ledger contradicts itself, so nothing more may be vouched for."""
