# SPDX-License-Identifier: Apache-2.0
"""The report: what a person reads at the end, and the canonical JSON it is drawn from.

`inputs` says what a report is made of, `document` makes the canonical JSON, `html`
draws the page from that JSON with `plots` and `pictures`. Nothing here measures, reads
a database or knows torch; numpy and Pillow are imported only where pixels are drawn.
"""
