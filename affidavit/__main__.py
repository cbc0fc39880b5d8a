# SPDX-License-Identifier: Apache-2.0
"""`python -m affidavit` is the command line."""

from affidavit.cli.app import main

main()
