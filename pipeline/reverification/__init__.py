# SPDX-License-Identifier: Apache-2.0
"""Computing a part of a finished run again, and holding it against what is stored.

`verify` shows that nothing was altered since it was recorded. This shows that what was
recorded is what the model, the data and the method give.
"""
