# SPDX-License-Identifier: Apache-2.0
"""Where items come from: folders, CSV and Parquet manifests, S3.

Here: listing, in an order that depends on the data alone, in memory that does not grow
with the number of items. Not here: reading the items themselves (`pipeline.reading`),
tokens, or deciding what a label means. `pipeline.sources.opening` is the way in.
"""
