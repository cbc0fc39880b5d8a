# SPDX-License-Identifier: Apache-2.0
"""The 18 kinds of identifiers of 45 CFR 164.514(b)(2), one seed of each, in one audit.

Each stands where it might in real data, and nowhere else by chance.
"""

from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.support.workspace import photograph, write_csv

IN_SUBJECTS = {
    "name": "Wilhelmina Quokkason",
    "social security number": "078-05-1120",
    "account": "IBAN-DE89370400440532",
}
IN_GROUPS = {
    "place": "Zwolle 8011XK",
    "date": "1957-03-14",
    "health plan": "HPBN-7731-44",
}
IN_PATHS = {
    "telephone": "tel-555-0142-887",
    "fax": "fax-555-0199-221",
    "e-mail": "xylophonist@hospital.example",
    "medical record": "MRN00420042",
    "other code": "studycode-halfmoon-9",
}
IN_LABELS = {"licence": "LIC-Q88231", "vehicle": "WVWZZZ1JZ3W386752"}
IN_FILES = {
    "device": "SN-PACEMAKER-771X",
    "URL": "http://patients.example/42-quokka",
    "IP address": "198.51.100.237",
    "biometric": "fingerprint-5f3a-whorl",
}

#: Kind to what must be found nowhere. The photograph itself is asked for by its bytes.
SEEDS = {**IN_SUBJECTS, **IN_GROUPS, **IN_PATHS, **IN_LABELS, **IN_FILES}

COLUMNS: dict[str, Any] = {
    "label": "class",
    "mask": "mask",
    "subject": "patient",
    "groups": ["zip", "born", "plan"],
}


def lay_out_identifiers(folder: Path) -> None:
    """The folder has a manifest, items.csv, of files that hold every seed."""
    scans = folder / IN_PATHS["medical record"] / IN_PATHS["fax"]
    scans.mkdir(parents=True)
    people = [*IN_SUBJECTS.values()]
    labels = ["cat", *IN_LABELS.values()]
    rows = []
    for number in range(6):
        stem = (IN_PATHS["telephone"], IN_PATHS["e-mail"])[number % 2]
        picture = scans / f"{stem}-{number}.png"
        mask = scans / f"{IN_PATHS['other code']}-{number}.png"
        _save(photograph(number), picture)
        photograph(number).convert("L").save(mask)
        rows.append(
            {
                "path": str(picture.relative_to(folder)),
                "mask": str(mask.relative_to(folder)),
                "patient": people[number % 3],
                "zip": IN_GROUPS["place"] if number % 2 else "elsewhere",
                "born": IN_GROUPS["date"] if number % 2 else "long ago",
                "plan": IN_GROUPS["health plan"] if number % 2 else "none",
                "class": labels[number % 3],
            }
        )
    # One that cannot be read, so that reasons and exceptions are looked at as well.
    (folder / rows[5]["path"]).write_bytes(b"no picture " + SEEDS["device"].encode())
    write_csv(folder / "items.csv", rows)


def _save(picture: Image.Image, path: Path) -> None:
    said = PngInfo()
    for kind, seed in IN_FILES.items():
        said.add_text(kind.replace(" ", "-"), seed)
    picture.save(path, pnginfo=said)


def photograph_bytes(folder: Path) -> bytes:
    """Return what tells the first photograph's file from any other."""
    data = next(folder.rglob(f"{IN_PATHS['telephone']}-0.png")).read_bytes()
    start = data.index(b"IDAT") + 4
    return data[start : start + 64]


def kinds_in(content: bytes, photograph_part: bytes) -> list[str]:
    """Return the kinds of identifiers that are found, whatever their case."""
    lowered = content.lower()
    found = [kind for kind, seed in SEEDS.items() if seed.lower().encode() in lowered]
    return found + (["photograph"] if photograph_part in content else [])
