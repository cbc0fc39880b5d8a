# SPDX-License-Identifier: Apache-2.0
"""The fourteen sections of a report, and what the run's records give for each.

A section that has no records is there all the same and says so. Its sentence never
stands in for a value: it names what was not recorded, and how it would be.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.reports.formats import count, number_of, percent

#: Name and title of each section, in order; the first has number 1.
SECTIONS: tuple[tuple[str, str], ...] = (
    ("verdict", "Verdict"),
    ("use", "Intended use and legal basis"),
    ("provenance", "Model, data, code and environment"),
    ("method", "Method, threshold and approvals"),
    ("coverage", "Coverage"),
    ("metrics", "Quality of the explanations"),
    ("sanity", "Sanity controls"),
    ("groups", "Differences between groups"),
    ("review", "Human review"),
    ("limits", "Limits and known failures"),
    ("change", "Changes since the last report"),
    ("privacy", "Privacy"),
    ("evidence", "Evidence"),
    ("signatures", "Signatures"),
)

Document = Mapping[str, Any]


def sections_of(document: Document) -> list[dict[str, Any]]:
    """Return each section with whether records stand behind it, and what they say."""
    found = []
    for number, (name, title) in enumerate(SECTIONS, start=1):
        has_records, says = _SAYS[name](document)
        found.append(
            {
                "number": number,
                "name": name,
                "title": title,
                "has_records": has_records,
                "says": says,
            }
        )
    return found


Said = tuple[bool, str]


def _verdict(document: Document) -> Said:
    if not document["verdict"]["criteria"]:
        return False, (
            "The audit sets no criteria, so this report gives numbers and no verdict."
        )
    return True, (
        "Each criterion was set in the audit before the run began. All of them must "
        "hold."
    )


def _use(document: Document) -> Said:
    use = document["use"]
    names = ("owner", "tier", "intended_use", "not_intended", "legal_basis")
    missing = [name.replace("_", " ") for name in names if use[name] is None]
    if len(missing) == len(names):
        return False, (
            "No records: the audit declares no owner, tier or intended use "
            "(model.record in the spec) and no legal basis (privacy.legal_basis)."
        )
    says = "Declared in the audit by who wrote it; this program does not check it."
    return True, f"{says} Not declared: {', '.join(missing)}." if missing else says


def _provenance(document: Document) -> Said:
    record = document["model_record"]
    if not record["versions"]:
        return True, "What the run was made of, by digest."
    return True, (
        "What the run was made of, by digest. "
        f"{number_of(record['runs'], 'run')} of this audit had "
        f"{number_of(len(record['versions']) + record['versions_left_out'], 'version')}"
        " of the weights."
    )


def _method(document: Document) -> Said:
    record = document["model_record"]
    changes, approved = record["threshold_changes"], record["changes_approved"]
    if not record["thresholds"]:
        return True, "How a map is made and which part of it is kept."
    if not changes:
        return True, "The threshold is the one that the audit's first run set."
    if approved == changes:
        how = "a second principal agreed to each change"
    elif record["approval_asked_for"]:
        how = f"a second principal agreed to {count(approved)} of them"
    else:
        how = (
            f"a second principal agreed to {count(approved)} of them; the "
            "installation has no principals, so nobody is asked"
        )
    return True, f"The threshold changed {number_of(changes, 'time')}: {how}."


def _coverage(document: Document) -> Said:
    items = document["scope"]["items"]
    return True, (
        f"{count(items['done'])} of {number_of(items['total'], 'item')} are explained, "
        f"{count(items['failed'])} failed and {count(items['missing'])} are missing. "
        "Nothing is left out silently."
    )


def _metrics(document: Document) -> Said:
    many = len(document["metrics"])
    if not many:
        return False, "No records: the audit asks for no metric."
    return True, (
        f"{number_of(many, 'value')}, measured on the maps as stored, so that anyone "
        "can compute them again from the artifacts."
    )


def _sanity(document: Document) -> Said:
    sanity = document["sanity"]
    if sanity is None:
        return False, (
            "No records: the audit has no section sanity, so no randomised model and "
            "no random attribution was held against its maps."
        )
    flagged = sum(check["verdict"] == "flag" for check in sanity["checks"])
    many = len(sanity["checks"])
    found = "none is flagged" if not flagged else f"{count(flagged)} flagged"
    return True, f"{number_of(many, 'check')} before the run was made, {found}."


def _groups(document: Document) -> Said:
    groups = document["groups"]
    if not groups["columns"]:
        return False, (
            "No records: the audit names no group column (data.columns.groups), so "
            "nothing is known here of differences between groups."
        )
    both = (*groups["gaps"], *groups["outcomes"])
    compared = [one for one in both if one["gap"] is not None]
    if not compared:
        return False, (
            "No two groups have enough values to be compared: it takes "
            f"{count(groups['fewest'])} independent ones each."
        )
    return True, (
        "The highest and the lowest mean of each value over the groups with at least "
        f"{count(groups['fewest'])} independent values. A gap is a reason to look, and "
        "overlapping intervals do not show that groups are equal."
    )


def _review(document: Document) -> Said:
    review = document["review"]
    tail = "Reviews of single results are not recorded by this version."
    if not review["count"]:
        return False, f"No records: nobody has signed an earlier report. {tail}"
    return True, (
        f"{number_of(review['count'], 'sign-off')} of earlier reports of this audit: "
        f"{count(review['accepted'])} accepted, {count(review['rejected'])} rejected. "
        f"{tail}"
    )


def _limits(_document: Document) -> Said:
    return True, (
        "What this report does not show, and what went less than well. Read it before "
        "quoting a number."
    )


def _change(document: Document) -> Said:
    change = document["change"]
    if change is None:
        return False, (
            "No records: there is no earlier run of this audit that explains in the "
            "same way."
        )
    return True, (
        f"Compared with run {change['previous']['run']}, the newest earlier one of "
        "this audit that explains in the same way."
    )


def _privacy(document: Document) -> Said:
    privacy = document["privacy"]
    if not privacy["subjects_named"]:
        return True, (
            "The audit names no subject column, so no identifier was removed: file "
            "names are as they were."
        )
    erased = privacy["erased_items"]
    of_erased = (
        f"{number_of(erased, 'item')} of the manifest "
        f"({percent(_share(document))}) had been erased and are in no number."
        if erased
        else "No item had been erased."
    )
    return True, f"Persons and files are named by random tokens. {of_erased}"


def _share(document: Document) -> float:
    total = document["scope"]["items"]["total"]
    return float(document["privacy"]["erased_items"] / total) if total else 0.0


def _evidence(document: Document) -> Said:
    made = document["reverified"]["count"]
    again = (
        f"Parts of earlier runs were computed again {number_of(made, 'time')}."
        if made
        else "No part of an earlier run was computed again."
    )
    return True, (
        "The numbers of this page come from the JSON report beside it, whose digest is "
        f"an entry of the ledger. {again}"
    )


def _signatures(_document: Document) -> Said:
    return False, (
        "No records: a report is signed once it is written, so its own signatures are "
        "in the ledger and not on this page."
    )


_SAYS: dict[str, Callable[[Document], Said]] = {
    "verdict": _verdict,
    "use": _use,
    "provenance": _provenance,
    "method": _method,
    "coverage": _coverage,
    "metrics": _metrics,
    "sanity": _sanity,
    "groups": _groups,
    "review": _review,
    "limits": _limits,
    "change": _change,
    "privacy": _privacy,
    "evidence": _evidence,
    "signatures": _signatures,
}
