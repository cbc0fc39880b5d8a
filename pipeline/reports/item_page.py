# SPDX-License-Identifier: Apache-2.0
"""The page of one item that is no image: its pictures and its numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.reports.html import CONTENT_POLICY, environment
from pipeline.reports.inputs import Picture


def item_page(document: Mapping[str, Any], pictures: Sequence[Picture]) -> bytes:
    """Return one static page, without scripts or remote assets."""
    template = environment().get_template("item.html.j2")
    page = template.render(item=document, pictures=pictures, policy=CONTENT_POLICY)
    return page.encode("utf-8")
