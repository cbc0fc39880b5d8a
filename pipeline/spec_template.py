# SPDX-License-Identifier: Apache-2.0
"""The commented example spec that `affidavit init` writes."""

TEMPLATE = """\
# An audit: what is explained, how, and when the result counts as good enough.
# Only audit, model.source and data.source must be given; the other values are the
# defaults. Paths count from this file's folder.

audit: photos                       # a name of your choice

model:
  source: torchvision:resnet50      # torchvision:NAME, timm:NAME, or a registered name
  weights: weights.safetensors      # .safetensors, or a state dict without code in it
  sha256: null                      # expected SHA-256 of the weights; checked if given
  layer: auto                       # dotted name of the layer to look at
  classes: imagenet                 # imagenet, [a, list], or a file with a name a line
  arguments: {}                     # passed to the architecture, e.g. {num_classes: 10}
  tokenizer: null                   # tokenizer.json of a network of texts
  config: null                      # config.json of transformers:FOLDER
  encoding: null                    # how a table's columns become inputs (JSON)
  preprocess:
    resize: 256                     # shorter side in pixels, [height, width], or null
    crop: 224                       # centred crop: side, [height, width], or null
    mean: [0.485, 0.456, 0.406]     # a channel; one value makes a greyscale input
    std: [0.229, 0.224, 0.225]
    interpolation: bilinear         # nearest, bilinear, bicubic or lanczos
  record: null                      # for the report: {owner: ..., tier: high,
                                    # intended_use: ..., version: ...}

data:
  kind: image                       # image, text, sequence, graph or table
  options: {}                       # the kind's own; `affidavit kinds NAME`
  source: photos/                   # a folder, a .csv or .parquet file, or s3://...
  columns:                          # of a .csv or .parquet file
    uri: path                       # the picture: a path or an s3:// address
    label: null                     # its class, by name or index
    mask: null                      # its ground truth; whatever is not zero is object
    subject: null                   # the person shown; results then hold tokens only
    text: null                      # of kind text: the text; a row is an item
    features: []                    # of kinds table and sequence: the inputs
    id: null                        # rows with one value here are one item
    step: null                      # the time of a row
    groups: []                      # columns to break the results down by
  labels: auto                      # does the first subfolder name the class?
                                    # auto (yes, if target is label), folders or none

explain:
  method: gradcam                   # `affidavit methods` lists them
  target: predicted                 # predicted, label, a class index or a class name
  parameters: {}                    # the method's own; `affidavit methods NAME`
  grid: 28                          # side to which very fine maps are pooled
  fusion: null                      # maps of several sizes: {scales: [0.75, 1, 1.5]}
  smoothing: null                   # of ragged maps: {sigma_max: 1.5}
  contrast: null                    # CLAHE before explaining: {clip: 0.01}

threshold:
  policy: fixed                     # `affidavit policies` lists them
  keep: 0.10                        # the fraction of the picture that is kept; other
                                    # policies have others: `affidavit policies NAME`

# What is measured of each explanation; [] measures nothing and is fastest.
metrics: [deletion, insertion, confidence_retained]

# All of these must hold: <value>.<aggregate> <op> <number>, where the aggregate is one
# of mean, median, std, min, max, p05, p25, p75, p95. Examples:
#   - deletion_auc.mean <= 0.4
#   - items_failed.fraction <= 0.01
#   - faithfulness.deletion_auc.mean <= 0.4 with 95% confidence
#   - deletion_auc.mean <= 0.5 by class      (or: by group:COLUMN)
criteria: []

sanity: null                        # checks on a sample before the run is made: {} or
                                    # {items: 16, blocking: true}

privacy:
  gallery: null                     # images, maps or none; null: images, but maps when
                                    # a subject column is named
  retention: six_years              # half_year, twenty_five_months, six_years or
                                    # ten_years after the end of a run
  legal_basis: null                 # for the report: consent, contract,
                                    # legal_obligation, vital_interests, public_task,
                                    # legitimate_interests or no_personal_data

run:
  shard_size: null                  # most items in a shard; null: a minute of work
  batch_size: 16                    # or auto: the fastest of a few is searched for
  dtype: float32                    # or bfloat16; it and compile only if maps and
  compile: false                    # masks differ from those of float32
  tolerance: 0.1                    # by no more than this
  seed: 0
  device: auto                      # auto, cpu, cuda, cuda:N or mps
  threads: null                     # of one worker on the CPU; null: all cores
  chunk: 64                         # most images in one pass of methods that make many
  max_attempts: 3                   # before a shard is given up
  priority: 0                       # -10 to 10; higher gets the workers first

# When the audit is run again by itself: `affidavit schedule add`. null is never.
schedule: null
#   cron: 0 3 * * *                 # minute, hour, day, month, weekday; or @daily
#   timezone: Europe/Berlin         # [UTC]
#   catch_up: latest                # of missed slots: latest, all or none
#   incremental: false              # true: only items that are new or changed
"""
