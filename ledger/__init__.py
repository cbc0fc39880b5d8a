# SPDX-License-Identifier: Apache-2.0
"""Evidence, pure: canonical JSON, the Merkle tree, signed checkpoints, the verifier.

An outside auditor installs this package with `cryptography` and nothing else, so
no module here may import another package of ours, SQL, torch, numpy or a network
client. Database tables of the ledger live in `storage`.

canonical   RFC 8785 bytes and SHA-256
actions     the closed list of what can happen
entries     one ledger entry: what it holds, how it is written and read
merkle      RFC 6962 hashing, compact range, proofs
note        C2SP signed-note envelope
checkpoint  C2SP checkpoints, signing keys and verifier keys
key_file    keys on disk
head_file   the last signed head, remembered beside the key
safe_zip    zip reading that distrusts the zip
bundle      the evidence bundle: layout, writing, reading
failures    the kinds of integrity failure and the verdict
verifier    checks of a live ledger
bundle_verifier  checks of a bundle, entry by entry and file by file
__main__    `python -m ledger BUNDLE`
"""
