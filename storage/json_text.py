# SPDX-License-Identifier: Apache-2.0
"""JSON as columns hold it: without NaN, which RFC 8259 does not know."""

import json

#: Made once: `json.dumps` with an option makes an encoder at each call, and a row has
#: several documents. Raises ValueError for NaN and infinity.
json_text = json.JSONEncoder(allow_nan=False).encode
