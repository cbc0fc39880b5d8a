# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.fuzz TARGET [libFuzzer options]`: fuzzing by atheris.

    python -m tests.fuzz bundle -max_total_time=60

Finds that crash lie in the working folder as `crash-...`; `python -m tests.fuzz TARGET
crash-...` shows one again. Needs the extra `fuzz`.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory


def main(arguments: list[str]) -> int:
    """Fuzz the target that the arguments name, for ever or as the options say."""
    try:
        import atheris
    except ImportError:
        sys.stderr.write("atheris is missing; pip install 'affidavit[fuzz]'\n")
        return 2
    with atheris.instrument_imports(include=["ledger", "pipeline"]):
        from tests.fuzz.seeds import seeds
        from tests.fuzz.targets import TARGETS
    if not arguments or arguments[0] not in TARGETS:
        sys.stderr.write(f"name one of: {' '.join(TARGETS)}\n")
        return 2
    name, *options = arguments
    target = TARGETS[name]
    with TemporaryDirectory(prefix="corpus-") as corpus:
        for number, seed in enumerate(seeds()[name]):
            (Path(corpus) / f"seed-{number}").write_bytes(seed)
        is_replay = any(Path(option).is_file() for option in options)
        given = options if is_replay else [corpus, *options]
        atheris.Setup([sys.argv[0], *given], target)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
