# SPDX-License-Identifier: Apache-2.0
"""Texts: words as units, a classifier of tokens behind gates, methods of its attention.

Tokens come in as numbers; no tokenizer, file or text is known here. The cards load
without torch.
"""
