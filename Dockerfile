# SPDX-License-Identifier: Apache-2.0
# One image for every service; docker-compose.yml says which command each one runs.
#
#   docker build -t affidavit .
#   docker build -t affidavit --build-arg TORCH_INDEX_URL=<index of CPU wheels> .
#
# BASE_IMAGE may be any Debian-like image with Python 3.11 or newer and its venv module.
ARG BASE_IMAGE=python:3.12-slim-bookworm
FROM ${BASE_IMAGE}

# An index that offers torch built for the CPU alone makes the image several GB smaller;
# the PyTorch site names it. Empty: the wheels of the usual index, which know CUDA.
ARG TORCH_INDEX_URL=""
# Optional extras of pyproject.toml, separated by commas: demo,timm
ARG EXTRAS=""

LABEL org.opencontainers.image.title="affidavit" \
      org.opencontainers.image.licenses="Apache-2.0"

# /keys, /subjects and the home exist in the image, so that volumes mounted there are
# writable.
RUN groupadd --gid 10001 affidavit \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/affidavit \
            --shell /usr/sbin/nologin affidavit \
 && install -d -o affidavit -g affidavit -m 0700 /var/lib/affidavit /keys /subjects \
 && install -d -m 0755 /data \
 && python3 -m venv /opt/affidavit

ENV PATH=/opt/affidavit/bin:${PATH} \
    HOME=/var/lib/affidavit \
    AFFIDAVIT_HOME=/var/lib/affidavit \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1

# What the project needs comes before its code: a change of the code leaves this layer,
# which is nearly the whole image, as it is.
WORKDIR /opt/affidavit/src
COPY pyproject.toml constraints.txt deploy/list_requirements.py ./
RUN python list_requirements.py pyproject.toml "${EXTRAS}" > requirements.txt \
 && if [ -n "${TORCH_INDEX_URL}" ]; then \
      pip install -c constraints.txt --index-url "${TORCH_INDEX_URL}" \
          torch torchvision; \
    fi \
 && pip install -c constraints.txt -r requirements.txt

COPY README.md LICENSE ./
COPY affidavit affidavit
COPY workers workers
COPY pipeline pipeline
COPY storage storage
COPY ledger ledger
COPY explain explain
COPY migrations migrations
RUN pip install --no-deps . && rm -rf build ./*.egg-info
COPY deploy/health.py /opt/affidavit/health.py

USER 10001:10001
WORKDIR /var/lib/affidavit
ENTRYPOINT ["affidavit"]
CMD ["--help"]
