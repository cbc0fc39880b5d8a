# SPDX-License-Identifier: Apache-2.0
"""What is owed to the persons behind the tokens: holds, erasure, retention, answers."""
