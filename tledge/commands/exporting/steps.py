"""The steps of one export over the samples of one run, and what the run's float model gives for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tledge import decisions, heads, machine, model, places
from tledge.commands import pipeline, run_folder
from tledge.commands.clock import Clock
from tledge.commands.exporting import budgets, head_choice
from tledge.errors import DataError, TledgeError
from tledge.modalities import READERS
from tledge.model import Recipe
from tledge.model.precision import calibration_pictures
from tledge.model.precision.thresholds import METHODS
from tledge.model.targets import TARGETS
from tledge.schema import (
    Backbone,
    Budgets,
    Dataset,
    Features,
    Head,
    HeadChoice,
    InputParity,
    LayerSensitivity,
    Metrics,
    Packaging,
    Quantization,
    QuantizeOptions,
    TrainOptions,
)

AUTO = "auto"


class Original(NamedTuple):
    """The run's float model: its parts, the features of all samples, and what it gives for the test samples.

    `rows` are the probabilities float32 [n, classes] of the n test samples, `metrics` what they amount to.
    """

    backbone: Backbone
    head: Head
    features: Features
    rows: np.ndarray
    metrics: Metrics


class Steps:
    """The steps of one export over the samples of one run, judged by `limits`, to a file in the form of `packaging`."""

    def __init__(
        self,
        dataset: Dataset,
        options: TrainOptions,
        limits: Budgets,
        packaging: Packaging,
        provider: str,
        clock: Clock,
    ) -> None:
        self.dataset, self.options, self.limits, self.packaging = dataset, options, limits, packaging
        self.provider, self.clock = provider, clock

    def quantize(self, backbone: Backbone, asked: QuantizeOptions) -> tuple[Backbone, Quantization]:
        """Return the int8 backbone, and how it was made.

        Raises TledgeError where the kind of int8 that fits the backbone cannot be had as asked.
        """
        if model.fits_dynamic(backbone):
            return self._quantize_dynamic(backbone, asked)
        cache, train = places.cache_dir(), self.dataset.train
        rounding = self._rounding_asked(asked)
        methods = tuple(METHODS) if asked.calibration == AUTO else (asked.calibration,)
        with self.clock.stage("quantize", "Quantizing the backbone"):
            chosen, errors = model.quantize_best(backbone, train, cache, rounding, methods)
            left = () if rounding.symmetric else model.float_nodes(chosen.path)
        best = errors[0]
        return chosen, Quantization(best.method, rounding[0], rounding[1], errors, best.equalised, left, rounding[2])

    def _quantize_dynamic(self, backbone: Backbone, asked: QuantizeOptions) -> tuple[Backbone, Quantization]:
        if asked.calibration != AUTO or asked.per_tensor or TARGETS[self.packaging.target].on_gpu:
            raise TledgeError(
                f"{backbone.name} takes texts: in int8 its ranges are found as it runs, on a CPU, a scale per channel.",
                "Leave --calibration, --per-tensor and --target away, or use '--precision fp16'.",
            )
        reduce_range = self._rounding_asked(asked).reduce_range
        with self.clock.stage("quantize", "Quantizing the backbone"):
            chosen = model.quantize_dynamic(backbone, places.cache_dir(), reduce_range=reduce_range)
        return chosen, Quantization(model.DYNAMIC, True, reduce_range)

    def _rounding_asked(self, asked: QuantizeOptions) -> model.Rounding:
        target, reduce_range = TARGETS[self.packaging.target], asked.reduce_range
        if reduce_range is None:  # a GPU does not saturate, whatever this machine is
            reduce_range = not target.on_gpu and machine.saturates_int8()
        if target.int8_note:
            self.clock.note(target.int8_note)
        return model.Rounding(not asked.per_tensor, reduce_range, target.symmetric_int8)

    def sensitivities(self, backbone: Backbone, how: Quantization) -> tuple[LayerSensitivity, ...]:
        """Return what each layer of `backbone` loses in an int8 made as `how` says, the worst first."""
        recipe, words = Recipe(how.calibration, how.equalised), "Measuring what each layer loses in int8"

        def tell(done: int, total: int) -> None:
            self.clock.tell(words, done, total)

        with self.clock.stage("sensitivities", words):
            return model.sensitivities(backbone, self.dataset.train, places.cache_dir(), recipe, _rounding(how), tell)

    def put_back(self, backbone: Backbone, how: Quantization, float_layers: tuple[str, ...]) -> Backbone:
        """Return the int8 backbone that `quantize` made as `how` says, but with some layers in float."""
        pictures = calibration_pictures.part(self.dataset.train)[0]  # those that `quantize` took
        with self.clock.stage("quantize", f"Quantizing, but for {len(float_layers)} of the layers"):
            return model.quantize(
                backbone,
                pictures,
                places.cache_dir(),
                how.calibration,
                _rounding(how),
                equalised=how.equalised,
                float_layers=float_layers,
            )

    def fit_again(self, original: Original, chosen: Backbone) -> tuple[Features, Head, HeadChoice | None]:
        """Return the features of the int8 backbone, and the better of the run's head and that fitted to both features.

        Fitted to the int8 features alone, the head also follows their rounding noise. With the float features of the
        same pictures beside them it agrees better with the float model: over ten splits of the solar cells the mean
        change of a probability was 0.0206 against 0.0230, the worst agreement 97.4 % against 97.0 %.
        """
        head, features = original.head, self.extract(chosen)
        if head.facts.get("trained_with_backbone"):  # what it was trained on fits it far too well to fit it again
            return features, head, None
        with self.clock.stage("extract"):
            views = [self._views(each) for each in (original.backbone, chosen)]
        with self.clock.stage("fit", "Fitting the head again"):
            exact, rounded = (
                head_choice.Parts(*pair) for pair in zip((original.features, features), views, strict=True)
            )
            kept, choice = head_choice.choose(head, exact, rounded, self.dataset, self.options.seed)
        return features, kept, choice

    def halve(self, backbone: Backbone) -> tuple[Backbone, Features, tuple[str, ...]]:
        """Return the fp16 backbone, its features, and the nodes that stay in float32 because of their values."""
        with self.clock.stage("halve", "Halving the backbone"):
            chosen, float_nodes = model.halve(backbone, self.dataset.train, places.cache_dir())
        if self.provider == "cpu" and not TARGETS[self.packaging.target].on_gpu:
            self.clock.note(
                "On a CPU, onnxruntime casts fp16 to float32 and back: the file is smaller there, and slower."
            )
        return chosen, self.extract(chosen), float_nodes

    def extract(self, chosen: Backbone) -> Features:
        """Return the features of all samples."""
        with self.clock.stage("extract"):
            return pipeline.extract_all(
                self.dataset,
                chosen,
                places.cache_dir(),
                self.clock,
                provider=self.provider,
                strict=self.options.strict,
            )[1]

    def score(self, head: Head, features: Features) -> tuple[np.ndarray, Metrics]:
        """Return the probabilities float32 [n, classes] of the test samples, and their metrics."""
        return pipeline.score(head, self.tested(features), self.dataset)

    def measure(self, rows: np.ndarray, head: Head, features: Features) -> Metrics:
        """Return the metrics of probabilities `rows` float32 [n, classes] of the test samples."""
        dataset, samples = self.dataset, self.tested(features).samples
        return pipeline.measure(rows, samples, dataset.classes, head.thresholds, dataset.multilabel)

    def decide(self, rows: np.ndarray, head: Head) -> np.ndarray:
        """Return bool [n, classes]: the classes decided on."""
        return decisions.predicted(rows, head.thresholds, self.dataset.multilabel)

    def build(self, backbone: Backbone, head: Head, features: Features, rows: np.ndarray, scores: Metrics) -> Any:
        """Return the model file, and how its golden samples come out."""
        samples = self.tested(features).samples
        tested = pipeline.count_wholes(samples)
        manifest = pipeline.manifest_of(backbone, self.dataset, head, scores.accuracy, tested)
        with self.clock.stage("build", "Joining the model"):
            graph = heads.graph(head, backbone.dimension)
            return model.build(backbone, graph, manifest, samples, rows, self.packaging)

    def input_parity(
        self, content: bytes, backbone: Backbone, head: Head, features: Features, rows: np.ndarray
    ) -> InputParity:
        """Return how the model file `content`, which resizes by itself, compares with `rows` of the test samples."""
        with self.clock.stage("input", "Resizing in the graph"):
            found, pixels = model.through_graph(content, backbone.preprocess, self.tested(features).samples)
        decided = self.decide(rows, head), self.decide(found, head)
        return budgets.input_parity(decided, rows - found, pixels, self.limits.min_agreement)

    def tested(self, features: Features) -> Features:
        """Return the rows of the test samples."""
        return pipeline.split(features, self.dataset)[2]

    def _views(self, backbone: Backbone) -> Features | None:
        return pipeline.extract_views(
            self.dataset, backbone, places.cache_dir(), self.clock, self.options, self.provider
        )


def _rounding(how: Quantization) -> model.Rounding:
    return model.Rounding(how.per_channel, how.reduce_range, how.symmetric)


def reload(
    document: dict[str, Any],
    run: Path,
    options: TrainOptions,
    limits: Budgets,
    packaging: Packaging,
    clock: Clock,
) -> tuple[Steps, Original]:
    """Find the run's very samples again; figures on any others would not be comparable.

    Raises DataError when they are not those that it was trained on, TledgeError when something of it is damaged.
    """
    test_source = Path(document["test_data"]) if document["test_data"] else None
    with clock.stage("scan", "Reading files"):
        dataset = pipeline.load_data(Path(document["data"]), test_source, options)
    cache = places.cache_dir()
    with clock.stage("backbone"):
        if document.get("fine_tuning"):
            backbone = run_folder.read_backbone(run)
        else:
            backbone = pipeline.load_backbone(options, dataset, cache, clock)
    with clock.stage("extract"):
        provider = pipeline.resolve(options, backbone)
        dataset, features = pipeline.extract_all(
            dataset, backbone, cache, clock, provider=provider, strict=options.strict
        )
    if dataset.fingerprint != document["fingerprint"]:
        raise DataError(
            f"The samples in {document['data']} are not those that the run was trained on.",
            "Put them back as they were, or train again.",
        )
    budgets.require_tested(len(dataset.test))
    _require_pictures(backbone, packaging)
    steps = Steps(dataset, options, limits, packaging, provider, clock)
    head = run_folder.read_head(run, backbone.dimension, len(document["classes"]))
    return steps, Original(backbone, head, features, *steps.score(head, features))


def _require_pictures(backbone: Backbone, packaging: Packaging) -> None:
    if packaging.input == "image" and backbone.preprocess.kind != "image":
        found = READERS[backbone.preprocess.kind].noun
        raise TledgeError(
            f"This run was trained on {found}s: there are no pictures to resize.", "Use '--input tensor'."
        )
