# SPDX-License-Identifier: Apache-2.0
"""Kinds of items beside images: what they are in files, and what their pictures are.

Each kind has a card (no torch, no heavy library), and a module that is imported when an
audit asks for it. What they compute lives in `explain`.
"""
