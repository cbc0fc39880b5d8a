# SPDX-License-Identifier: Apache-2.0
"""Who is behind a token: the only place that knows, in a database of its own.

Identities are encrypted, each under a key of its own; these keys are wrapped under the
key of an epoch, which is in no database. Nothing else may import these tables.
"""
