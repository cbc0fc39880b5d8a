# SPDX-License-Identifier: Apache-2.0
"""The audit spec: what is asked, declared in one YAML file.

The classes mirror the sections of the file; `pipeline.spec_file` reads it and turns
mistakes into sentences with line numbers. Paths stay as written here and are resolved
against the spec's folder by `pipeline.paths`.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from explain.errors import InvalidParameterError
from explain.kinds import IMAGE, KINDS
from explain.methods.cards import METHODS
from explain.metrics.cards import METRICS, PROFILES, profile
from explain.parameters import Parameter, resolved
from explain.remedies.cards import REMEDIES
from explain.thresholds.cards import POLICIES
from pipeline.cron import Cron
from pipeline.kinds.cards import KIND_CARDS
from pipeline.retention_classes import Retention
from pipeline.spec_record import LegalBasis, ModelRecordSpec

#: `weights: hub` is how a spec says that weights may be fetched at run time.
HUB = "hub"

Gallery = Literal["images", "maps", "none"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
#: Parameters of a method or a remedy; its card says which there are.
Parameters = dict[str, bool | int | float | str | list[float]]
#: A kind of items.
Kind = Annotated[str, Field(json_schema_extra={"enum": list(KINDS)})]
#: A ready-made choice of metrics.
Profile = Annotated[str, Field(json_schema_extra={"enum": list(PROFILES)})]


def _require_parameters(
    owner: str, declared: Mapping[str, Parameter], given: Mapping[str, Any]
) -> None:
    """Nothing happens if the parameters are those that the owner takes."""
    try:
        resolved(owner, declared, given)
    except InvalidParameterError as error:
        raise ValueError(str(error).rstrip(".")) from error


def _policy_parameters_in_schema(schema: dict[str, Any]) -> None:
    """The JSON Schema of the section names the parameters of every policy."""
    properties = schema["properties"]
    for card in POLICIES.values():
        for name, parameter in card.parameters.items():
            if name not in properties:
                properties[name] = {"description": ""}
            if name != "keep":
                said = properties[name]["description"]
                more = f"Of `{card.name}`: {parameter.meaning}."
                properties[name]["description"] = f"{said} {more}".strip()


class SpecSection(BaseModel):
    """A section of the spec: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PreprocessSpec(SpecSection):
    """How a decoded picture becomes the network's input."""

    resize: int | tuple[int, int] | None = Field(
        default=256,
        description="Length of the shorter side in pixels, or [height, width]; null "
        "keeps the size (all items must then have the same).",
    )
    crop: int | tuple[int, int] | None = Field(
        default=224,
        description="Side of the centred crop in pixels, or [height, width]; null "
        "takes the whole resized picture.",
    )
    mean: list[float] = Field(
        default=[0.485, 0.456, 0.406],
        min_length=1,
        description="Subtracted from each channel after scaling to 0..1; one value "
        "makes a greyscale input, three an RGB input.",
    )
    std: list[float] = Field(
        default=[0.229, 0.224, 0.225],
        min_length=1,
        description="Each channel is divided by this after the mean is subtracted.",
    )
    interpolation: Interpolation = Field(
        default="bilinear", description="Filter used to resize (with antialiasing)."
    )

    @field_validator("resize", "crop")
    @classmethod
    def _positive_sizes(cls, value: Any) -> Any:
        sides = value if isinstance(value, tuple) else (value,)
        if any(side is not None and not 1 <= side <= 8192 for side in sides):
            raise ValueError("sizes are whole numbers from 1 to 8192")
        return value

    @model_validator(mode="after")
    def _channels_agree(self) -> "PreprocessSpec":
        if len(self.mean) != len(self.std) or len(self.mean) not in {1, 3}:
            raise ValueError("mean and std need one value each, or three each")
        if any(value <= 0 for value in self.std):
            raise ValueError("every value of std must be above 0")
        if self.crop is None and not isinstance(self.resize, tuple):
            raise ValueError(
                "without crop, resize must be [height, width], so that all inputs "
                "have one size"
            )
        return self

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the network's input."""
        shape = self.crop if self.crop is not None else self.resize
        if isinstance(shape, tuple):
            return shape
        if shape is None:  # excluded by the validator above
            raise ValueError("neither crop nor resize gives a size")
        return (shape, shape)


class ModelSpec(SpecSection):
    """Which network is audited."""

    source: str = Field(
        description="`torchvision:NAME`, `timm:NAME` (extra timm), "
        "`transformers:FOLDER` (extra text: a folder with config.json, "
        "model.safetensors and tokenizer.json of a BERT, RoBERTa or DistilBERT "
        "classifier), or the name of an architecture registered under the entry point "
        "group `affidavit.models`."
    )
    weights: str | None = Field(
        default=None,
        description="Path to a .safetensors file or a state dict that loads with "
        "weights_only; null only where the architecture ships its own; `hub` lets "
        "torchvision or timm fetch its own, and nothing else is ever fetched.",
    )
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description="Expected SHA-256 of the weights file; checked when given.",
    )
    layer: str = Field(
        default="auto",
        description="Dotted name of the layer to tap, or `auto`.",
    )
    classes: str | list[str] | None = Field(
        default=None,
        description="`imagenet`, a list of names, or a path to a text file with one "
        "name a line (or a JSON list); null leaves the classes numbered.",
    )
    arguments: dict[str, str | int | float | bool] = Field(
        default_factory=dict,
        description="What shapes the architecture, e.g. {num_classes: 10}: numbers, "
        "true, false and words; no paths or addresses.",
    )
    tokenizer: str | None = Field(
        default=None,
        description="Path to the tokenizer.json of a network of texts; null takes that "
        "of `transformers:FOLDER`.",
    )
    encoding: str | None = Field(
        default=None,
        description="Path to the JSON file that says how the columns of a table become "
        "the network's inputs.",
    )
    config: str | None = Field(
        default=None,
        description="Path to the config.json of `transformers:FOLDER`; null takes the "
        "folder's own.",
    )
    preprocess: PreprocessSpec = Field(default_factory=PreprocessSpec)
    record: ModelRecordSpec | None = Field(
        default=None,
        description="What the report says of the model's owner, tier and intended "
        "use; it decides no result.",
    )

    @field_validator("source")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        named = r"((torchvision|timm):)?[A-Za-z0-9_.\-/]+|transformers:[^\x00-\x1f]+"
        if not re.fullmatch(named, value):
            raise ValueError(
                "expected torchvision:NAME, timm:NAME, transformers:FOLDER or a "
                "registered architecture"
            )
        return value


class ColumnsSpec(SpecSection):
    """Which columns of a CSV or Parquet manifest mean what."""

    uri: str = Field(default="path", description="Path or s3:// URI of the input.")
    label: str | None = Field(default=None, description="Class name or index.")
    mask: str | None = Field(
        default=None, description="Path of the ground-truth mask; non-zero is object."
    )
    subject: str | None = Field(
        default=None,
        description="Person or account; naming it turns URIs and groups into tokens.",
    )
    text: str | None = Field(
        default=None, description="Of kind text: the text itself; rows are then items."
    )
    features: list[str] = Field(
        default_factory=list,
        description="Of kinds table and sequence: the inputs themselves, in order; "
        "rows are then items.",
    )
    id: str | None = Field(
        default=None,
        description="Consecutive rows with one value here are one item, a row a step.",
    )
    step: str | None = Field(
        default=None, description="The time of a row; it must rise within an item."
    )
    groups: list[Annotated[str, Field(max_length=150)]] = Field(
        default_factory=list, description="Columns to break results down by."
    )


class DataSpec(SpecSection):
    """What the network is audited on."""

    source: str = Field(
        description="A folder, a .csv or .parquet manifest, or an s3:// prefix or "
        "manifest."
    )
    kind: Kind = Field(
        default=IMAGE,
        description="What an item is: image, text, sequence, graph or table (a row).",
    )
    options: Parameters = Field(
        default_factory=dict,
        description="What the kind takes besides; see `affidavit kinds NAME`.",
    )
    columns: ColumnsSpec = Field(default_factory=ColumnsSpec)
    labels: Literal["auto", "folders", "none"] = Field(
        default="auto",
        description="Whether the first subfolder names the class; `auto` says yes "
        "when explain.target is label.",
    )

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, value: str) -> str:
        if value != IMAGE and value not in KIND_CARDS:
            known = ", ".join([IMAGE, *KIND_CARDS])
            raise ValueError(f"there is no kind {value!r}; known are {known}")
        return value

    @model_validator(mode="after")
    def _kind_takes_the_options(self) -> "DataSpec":
        declared = {} if self.kind == IMAGE else KIND_CARDS[self.kind].options
        _require_parameters(f"kind {self.kind!r}", declared, self.options)
        return self


class ExplainSpec(SpecSection):
    """Which explanation is made."""

    method: str = Field(default="gradcam", description="See `affidavit methods`.")
    target: int | str = Field(
        default="predicted",
        description="`predicted`, `label`, a class index or a class name.",
    )
    grid: Annotated[int, Field(ge=1, le=256)] = Field(
        default=28,
        description="Most cells a side of maps of pixel-resolution methods, 1 to 256.",
    )
    parameters: Parameters = Field(
        default_factory=dict,
        description="The method's own parameters, e.g. {samples: 50}; `affidavit "
        "methods NAME` lists them.",
    )
    fusion: Parameters | None = Field(
        default=None,
        description="Multi-scale fusion of maps, e.g. {scales: [0.75, 1.0, 1.5]}; {} "
        "takes the defaults, null leaves it out.",
    )
    smoothing: Parameters | None = Field(
        default=None,
        description="Adaptive smoothing of the map, e.g. {sigma_max: 1.5}; {} takes "
        "the defaults, null leaves it out.",
    )
    contrast: Parameters | None = Field(
        default=None,
        description="Contrast enhancement (CLAHE) of the picture that is explained, "
        "e.g. {clip: 0.01}; {} takes the defaults, null leaves it out.",
    )

    @model_validator(mode="after")
    def _method_takes_the_parameters(self) -> "ExplainSpec":
        if self.method in METHODS:
            _require_parameters(
                f"method {self.method!r}",
                METHODS[self.method].parameters,
                self.parameters,
            )
        for name, given in self.remedies.items():
            if given is not None:
                _require_parameters(
                    f"remedy {name!r}", REMEDIES[name].parameters, given
                )
        return self

    @property
    def remedies(self) -> dict[str, Any]:
        """What is done to input and map beside the method, None where it is off."""
        return {name: getattr(self, name) for name in REMEDIES}


class ThresholdSpec(SpecSection):
    """Which part of an attribution is kept.

    Beside the policy the section holds that policy's own parameters, which are
    checked against its card.
    """

    model_config = ConfigDict(
        extra="allow", frozen=True, json_schema_extra=_policy_parameters_in_schema
    )

    policy: str = Field(default="fixed", description="See `affidavit policies`.")
    keep: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Of `fixed`: the fraction of positions to keep (0.1 if null). "
        "Other policies have other parameters; `affidavit policies NAME` lists them.",
    )

    @property
    def parameters(self) -> dict[str, Any]:
        """What the section gives beside the policy's name."""
        given = {"keep": self.keep, **(self.model_extra or {})}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def keeps_given_regions(self) -> bool:
        """Whether whole regions are kept, and the ground-truth mask gives them."""
        return self.policy == "semantic" and self.parameters.get("segments") == "given"

    @model_validator(mode="after")
    def _policy_takes_the_parameters(self) -> "ThresholdSpec":
        if self.policy in POLICIES:
            _require_parameters(
                f"policy {self.policy!r}",
                POLICIES[self.policy].parameters,
                self.parameters,
            )
        return self


class PrivacySpec(SpecSection):
    """What may be shown, and how long it is kept."""

    gallery: Gallery | None = Field(
        default=None,
        description="Pictures in the report: images, maps or none. Default: maps when "
        "a subject column is named, else images.",
    )
    retention: Retention = Field(
        default=Retention.SIX_YEARS,
        description="How long a run is kept after its end: half_year (183 days), "
        "twenty_five_months, six_years or ten_years; `affidavit purge` deletes it "
        "then.",
    )
    legal_basis: LegalBasis | None = Field(
        default=None,
        description="On which of Article 6(1) GDPR the processing rests, or "
        "no_personal_data; shown in the report, and not checked.",
    )


class SanitySpec(SpecSection):
    """What a sample of the items must show before the run is made."""

    items: int = Field(
        default=16, ge=1, le=1024, description="Items drawn, by the run's seed."
    )
    blocking: bool = Field(
        default=False,
        description="Whether a flagged check stops the audit (exit 1); otherwise the "
        "report shows it.",
    )
    max_similarity: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Highest mean rank correlation with the maps of the network whose "
        "weights are all drawn anew.",
    )
    max_residual: float = Field(
        default=0.1,
        gt=0,
        description="Highest mean relative completeness residual, for methods with "
        "that axiom.",
    )


class RunSpec(SpecSection):
    """How the work is cut and carried out."""

    shard_size: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None,
        description="Most items in a shard; null takes what should last a minute, at "
        "most 8192.",
    )
    batch_size: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = Field(
        default=16,
        description="Positions in a batch, or `auto`: the fastest of a few on the "
        "device, searched once and fixed in the manifest. Decides last bits.",
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="Type in which the network computes; bfloat16 only if a check "
        "against float32 stays within the tolerance.",
    )
    compile: bool = Field(
        default=False,
        description="Whether the network is compiled (torch.compile); only if the same "
        "check stays within the tolerance.",
    )
    tolerance: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="Of that check: the largest difference of two maps, each scaled to "
        "a maximum of 1, and 1 minus the mean IoU of the masks, may be this much.",
    )
    seed: int = Field(default=0, ge=0, lt=2**63)
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$",
        description="auto, cpu, cuda, cuda:N or mps.",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Threads of one worker on the CPU; null takes the cores of the "
        "machine that plans the run. Fixed in the manifest.",
    )
    chunk: int = Field(
        default=64,
        ge=1,
        le=65_536,
        description="Most images in one forward pass of a method, policy or metric "
        "that makes many; bounds memory. Decides last bits, so it is fixed in the "
        "manifest.",
    )
    priority: int = Field(
        default=0,
        ge=-10,
        le=10,
        description="Runs of a higher priority get workers first; equals share them.",
    )
    max_attempts: int = Field(
        default=3, ge=1, le=20, description="Attempts before a shard is dead."
    )


class ScheduleSpec(SpecSection):
    """When the audit is run again by itself, once `affidavit schedule add` took it."""

    cron: str = Field(
        description="Five fields as in cron(5), such as 0 3 * * *, or @hourly, @daily, "
        "@weekly, @monthly, @yearly."
    )
    timezone: str = Field(
        default="UTC", description="IANA name of the time zone that cron means."
    )
    catch_up: Literal["latest", "all", "none"] = Field(
        default="latest",
        description="Of slots that were missed: one run for the newest, one each (the "
        "newest 24 at most), or none for what is over ten minutes late.",
    )
    incremental: bool = Field(
        default=False,
        description="Whether a run takes only items that are new or changed since the "
        "runs before it.",
    )

    @model_validator(mode="after")
    def _names_moments(self) -> "ScheduleSpec":
        Cron(self.cron, self.timezone)
        return self


class AuditSpec(SpecSection):
    """One audit, as declared in its file."""

    audit: str = Field(
        min_length=1,
        max_length=200,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._\-]*$",
        description="Name of the audit.",
    )
    model: ModelSpec
    data: DataSpec
    explain: ExplainSpec = Field(default_factory=ExplainSpec)
    threshold: ThresholdSpec = Field(default_factory=ThresholdSpec)
    metrics: Profile | list[str | Parameters] = Field(
        default_factory=list,
        description="Metrics to measure, each a name or {name: NAME, parameter: "
        "value}; or `quick` (at most 12 forward passes an item), or `full` (all of "
        "them). An empty list measures none. See `affidavit metrics NAME`.",
    )
    criteria: list[str] = Field(
        default_factory=list,
        description="`<metric>_<value>.<aggregate> <op> <number>`, all of which must "
        "hold.",
    )
    privacy: PrivacySpec = Field(default_factory=PrivacySpec)
    sanity: SanitySpec | None = Field(
        default=None,
        description="A sample is checked before the run is made; {} takes the "
        "defaults, null leaves it out.",
    )
    run: RunSpec = Field(default_factory=RunSpec)
    schedule: ScheduleSpec | None = Field(
        default=None,
        description="When the audit is run again by itself; see below. Null: never.",
    )

    @model_validator(mode="before")
    @classmethod
    def _method_of_the_kind(cls, given: Any) -> Any:
        """An audit that names no method takes the kind's own."""
        if not isinstance(given, dict) or not isinstance(given.get("data"), dict):
            return given
        card = KIND_CARDS.get(str(given["data"].get("kind", IMAGE)))
        explain = given.get("explain", {})
        if card is None or not isinstance(explain, dict) or "method" in explain:
            return given
        return given | {"explain": explain | {"method": card.default_method}}

    @field_validator("metrics")
    @classmethod
    def _metrics_take_the_parameters(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in PROFILES:
            raise ValueError(
                f"expected a list of metrics, or one of {', '.join(PROFILES)}, got "
                f"{value!r}"
            )
        for entry in value if isinstance(value, list) else ():
            if isinstance(entry, str):
                continue
            given = dict(entry)
            name = given.pop("name", None)
            if not isinstance(name, str):
                raise ValueError(  # noqa: TRY004 - pydantic wants this one
                    "expected the name of a metric under the key 'name', such as "
                    "{name: max_sensitivity, samples: 20}"
                )
            if name in METRICS:
                _require_parameters(f"metric {name!r}", METRICS[name].parameters, given)
        return value

    @property
    def asked_metrics(self) -> list[tuple[str, dict[str, Any]]]:
        """The metrics with the parameters given, in order, a profile spelled out.

        A profile leaves out what compares with masks where no column holds masks.
        """
        if isinstance(self.metrics, str):
            chosen = profile(
                self.metrics,
                truth=self.data.columns.mask is not None,
                kind=self.data.kind,
            )
            return list(chosen.items())
        asked = []
        for entry in self.metrics:
            given = {"name": entry} if isinstance(entry, str) else dict(entry)
            asked.append((str(given.pop("name")), given))
        return asked

    @property
    def metric_names(self) -> list[str]:
        """The names of the metrics, in order."""
        return [name for name, _given in self.asked_metrics]

    @property
    def has_subjects(self) -> bool:
        """Whether items are about persons, so that artifacts must hold tokens."""
        return self.data.columns.subject is not None

    @property
    def gallery(self) -> Gallery:
        """What the report may show, the default applied."""
        if self.privacy.gallery is not None:
            return self.privacy.gallery
        return "maps" if self.has_subjects else "images"
