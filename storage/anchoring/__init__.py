# SPDX-License-Identifier: Apache-2.0
"""Places out of our reach that keep copies of checkpoints: locked buckets and files.

What lies there cannot be taken back by whoever can write the database and holds the
key, so a rewritten or shortened ledger contradicts it.
"""
