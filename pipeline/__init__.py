# SPDX-License-Identifier: Apache-2.0
"""What an audit is and how it is carried out: the decisions, without a queue.

Here: the spec, sources, the manifest, decoding, model loading, the processing of one
shard, packing, aggregation, criteria and reports. Not here: Celery, Redis, the command
line, or the numbers of an explanation (`explain`). Importing this package imports
nothing else; torch is imported only by the modules that compute.
"""
