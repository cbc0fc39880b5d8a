# SPDX-License-Identifier: Apache-2.0
"""What only containers need: the image's requirements and its health check.

Here: scripts that the Dockerfile and docker-compose.yml call. Not here: anything that
the installed package imports.
"""
