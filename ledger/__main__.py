# SPDX-License-Identifier: Apache-2.0
"""`python -m ledger BUNDLE`: verify an evidence bundle, with cryptography alone.

Exit codes: 0 everything holds, 3 something does not, 2 bad usage or unreadable file.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ledger.checkpoint import VerifierKey
from ledger.errors import BundleError, FormatError, KeyFileError
from ledger.key_file import load_verifier
from ledger.verifier import verify_bundle

EXIT_OK: Final = 0
EXIT_USAGE: Final = 2
EXIT_INTEGRITY: Final = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code of verifying the bundle that the arguments name."""
    options = _parser().parse_args(arguments)
    try:
        key = None if options.key is None else read_key(options.key)
        verdict = verify_bundle(options.bundle, key)
    except (BundleError, KeyFileError) as exc:
        sys.stderr.write(f"error: {exc}\n")
        return EXIT_USAGE
    if options.json:
        sys.stdout.write(json.dumps(verdict.to_json(), indent=2) + "\n")
    else:
        sys.stdout.write(verdict.to_text())
    return EXIT_OK if verdict.ok else EXIT_INTEGRITY


def read_key(text: str) -> VerifierKey:
    """Return the key that a vkey text is, or that a file of this name holds.

    Raises:
        KeyFileError: it is neither.
    """
    try:
        return VerifierKey.parse(text)
    except FormatError as not_vkey:
        path = Path(text)
        if text.count("+") >= 2 and not path.is_file():
            raise KeyFileError(f"{not_vkey}.") from not_vkey
        return load_verifier(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ledger",
        description="Verify an evidence bundle of Affidavit.",
        epilog="exit codes: 0 ok, 2 bad usage or unreadable file, 3 integrity failure",
    )
    parser.add_argument("bundle", type=Path, help="the bundle (a zip file)")
    parser.add_argument(
        "--key",
        metavar="VKEY_OR_FILE",
        help="the ledger's public key as you were given it, or a file that holds it",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


if __name__ == "__main__":
    sys.exit(main())
