# SPDX-License-Identifier: Apache-2.0
"""Where results live: SQL tables and queries, the object store, the ledger writer.

Here: row classes (always called tables), the lease protocol, subject tokens and the
two object stores. Not here: anything about networks (torch), about queues (celery,
redis) or about how an explanation is computed.
"""
