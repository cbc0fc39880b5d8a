# SPDX-License-Identifier: Apache-2.0
"""What strangers hand us, and that whatever they hand us is answered in our own words.

`targets` are the parsers; `test_fuzz` feeds them with hypothesis in each test run, and
`python -m tests.fuzz TARGET` (`make fuzz`) with atheris for as long as one likes.
"""
