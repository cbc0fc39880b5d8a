# SPDX-License-Identifier: Apache-2.0
"""Who may do what: roles and rights, tokens, and what needs the word of a second one.

`policy` decides and knows no database; the others ask it. Without principals there is
one operator, who may do everything.
"""
