# SPDX-License-Identifier: Apache-2.0
"""Check an erasure's certificate with nothing but the verifier file and a public key.

python -I certificate.py verify.pyz ledger.vkey < certificate
"""

import sys

sys.path.insert(0, sys.argv[1])

from ledger.__main__ import read_key
from ledger.checkpoint import verify_note
from ledger.errors import LedgerError
from ledger.note import Note

try:
    note = Note.parse(sys.stdin.read())
    verify_note(note, read_key(sys.argv[2]))
except LedgerError as exc:
    sys.exit(f"The certificate does not hold: {exc}")
sys.stdout.write(note.text)
