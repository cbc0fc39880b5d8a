# SPDX-License-Identifier: Apache-2.0
"""Closed list about reviews: what a reviewer can say of a report."""

from enum import StrEnum


class SignOffVerdict(StrEnum):
    """What a reviewer says of a report."""

    ACCEPT = "accept"
    REJECT = "reject"
