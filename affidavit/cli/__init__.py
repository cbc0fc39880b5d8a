# SPDX-License-Identifier: Apache-2.0
"""The command line: each command parses, calls one function below, and prints.

Commands import what they need when they run, so that `status` does not wait for torch.
"""
