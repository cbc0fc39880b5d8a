# SPDX-License-Identifier: Apache-2.0
"""`python -m ledger BUNDLE`: verify an evidence bundle, with cryptography alone.

Exit codes: 0 everything holds, 2 bad usage or unreadable file, 3 a damaged bundle, and
for what does not hold the first of 10-16 that applies, as `EXIT_CODES` says.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ledger.anchors import read_notes
from ledger.checkpoint import VerifierKey
from ledger.errors import BundleError, FormatError, KeyFileError
from ledger.failures import FailureKind, Verdict
from ledger.key_file import load_verifier
from ledger.verifier import verify_bundle

EXIT_OK: Final = 0
EXIT_USAGE: Final = 2
EXIT_INTEGRITY: Final = 3

#: By what does not hold; where several things do not, the smallest code counts.
EXIT_CODES: Final = {
    FailureKind.BAD_SIGNATURE: 10,
    FailureKind.ROOT_MISMATCH: 11,
    FailureKind.ENTRY_MISMATCH: 11,
    FailureKind.INCONSISTENT: 12,
    FailureKind.MISSING_ENTRIES: 13,
    FailureKind.ARTIFACT_MISMATCH: 14,
    FailureKind.ARTIFACT_MISSING: 14,
    FailureKind.RESULT_DIGEST_MISMATCH: 14,
    FailureKind.REPORT_MISMATCH: 14,
    FailureKind.ROW_MISMATCH: 14,
    FailureKind.UNKNOWN_SCHEMA: 15,
    FailureKind.NOT_COVERED: 16,
    FailureKind.NOT_ANCHORED: 16,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code of verifying the bundle that the arguments name."""
    options = _parser().parse_args(arguments)
    try:
        key = None if options.key is None else read_key(options.key)
        verdict = verify_bundle(
            options.bundle,
            key,
            anchors=_notes(options.anchor),
            earlier=_notes(options.checkpoint),
        )
    except (BundleError, KeyFileError) as exc:
        sys.stderr.write(f"error: {exc}\n")
        return EXIT_USAGE
    if options.json:
        sys.stdout.write(json.dumps(verdict.to_json(), indent=2) + "\n")
    else:
        sys.stdout.write(verdict.to_text())
    return exit_code(verdict)


def exit_code(verdict: Verdict) -> int:
    """Return the exit code that says what a verdict found."""
    if verdict.ok:
        return EXIT_OK
    kinds = {failure.kind for failure in verdict.failures}
    return min((EXIT_CODES[k] for k in kinds & EXIT_CODES.keys()), default=3)


def _notes(paths: Sequence[Path]) -> tuple[str, ...]:
    return tuple(note for path in paths for note in read_notes(path))


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
        epilog="exit codes: 0 ok; 2 bad usage or unreadable file; 3 damaged bundle; "
        "10 bad signature; 11 an entry or root is another; 12 inconsistent with a "
        "checkpoint; 13 missing entries; 14 an artifact, report or record is another; "
        "15 unknown schema, take a newer verifier; 16 not covered by a checkpoint, or "
        "by any anchor that was given",
    )
    parser.add_argument("bundle", type=Path, help="the bundle (a zip file)")
    parser.add_argument(
        "--key",
        metavar="VKEY_OR_FILE",
        help="the ledger's public key as you were given it, or a file that holds it",
    )
    for name, what in (
        ("--anchor", "checkpoints from a place that the ledger's owner cannot change"),
        ("--checkpoint", "a checkpoint that you have kept from an earlier time"),
    ):
        parser.add_argument(
            name,
            type=Path,
            action="append",
            default=[],
            metavar="FILE",
            help=f"{what}; may be given several times",
        )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


if __name__ == "__main__":
    sys.exit(main())
