# SPDX-License-Identifier: Apache-2.0
"""Delivery: the Celery app, thin tasks, dispatch, recovery and worker processes.

Here: what carries hints through Redis and starts work. Not here: the work itself
(`pipeline`) or the lease protocol (`storage.leases`). A message is a hint; losing,
doubling or reordering messages changes nothing.
"""
