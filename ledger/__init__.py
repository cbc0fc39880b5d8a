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
succession  the old key signs the new; which key signs which checkpoint
key_file    keys on disk
head_file   the last signed head, remembered beside the key
safe_zip    zip reading that distrusts the zip
anchors     files of checkpoints that were copied out of reach
bundle      the evidence bundle of a run: layout, writing, reading
item_bundle  the same of one item, which says nothing of the others
failures    the kinds of integrity failure and the verdict
verifier    checks of a live ledger
bundle_evidence  the signed head and the entries of any bundle
bundle_verifier  checks of a run's bundle, entry by entry and file by file
item_verifier  checks of an item's bundle
__main__    `python -m ledger BUNDLE`
"""
