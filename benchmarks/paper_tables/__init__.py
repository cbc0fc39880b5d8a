# SPDX-License-Identifier: Apache-2.0
"""The tables of the paper that the project grew out of, measured anew.

A module a table; `setting` holds the frames and the network, `figures` the numbers with
their intervals, `results` what is kept between runs, `memory` and `rounds` the clocks.
Run by `benchmarks/paper.py`, which puts this folder's parent on the path.
"""
