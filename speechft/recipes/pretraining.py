"""Recipes of encoders that are pre-trained or computed. No torch here: Snakemake imports this."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from speechft.recipes.values import Fraction, Positive, Seed, Strict

PositiveFloat = Annotated[float, Field(gt=0)]


class ConvolutionLayer(Strict):
    """One layer of the convolutional feature extractor."""

    channels: Positive
    kernel: Positive
    stride: Positive


SMALL_EXTRACTOR = tuple(
    ConvolutionLayer(channels=channels, kernel=kernel, stride=stride)
    for channels, kernel, stride in [(32, 10, 5), (32, 3, 2), (64, 3, 2), (64, 3, 2), (128, 3, 2), (128, 2, 2), (128, 2, 2)]
)


class Architecture(Strict):
    """Sizes of an encoder to pre-train; the defaults are a small one of 1.8 million parameters."""

    extractor: tuple[ConvolutionLayer, ...] = SMALL_EXTRACTOR
    layers: Positive = 3
    hidden_size: Positive = 192
    ffn_size: Positive = 768
    attention_heads: Positive = 4
    conv_pos: Positive = 128
    conv_pos_groups: Positive = 16
    final_dim: Positive = Field(64, description="Width in which predictions are compared with targets.")
    dropout: Fraction = 0.1


class LayerTargets(Strict):
    """HuBERT's targets from the second iteration on: k-means clusters of a hidden layer of an encoder."""

    encoder: str | None = Field(None, description="An encoder of the experiment; default: the one that training starts from.")
    layer: Annotated[int, Field(ge=0)] = Field(description="Hidden state: 0 is the input of the first transformer layer, L the output.")


class Contrastive(Strict):
    """wav2vec 2.0's objective: identify the quantized latent of a masked frame among those of others (Baevski et al., 2020)."""

    negatives: Positive = Field(100, description="Distractors: other masked frames of the same utterance.")
    groups: Positive = Field(2, description="Codebooks of the quantizer.")
    entries: Annotated[int, Field(ge=2)] = Field(160, description="Entries of each codebook; 320 in the published models.")
    temperature: tuple[PositiveFloat, PositiveFloat] = Field(
        (2.0, 0.5),
        description="Of the Gumbel softmax: falls geometrically from the first to the second in 70 % of the updates, as published.",
    )
    diversity_weight: Annotated[float, Field(ge=0)] = Field(0.1, description="Of the loss that wants all entries used alike.")
    penalty_weight: Annotated[float, Field(ge=0)] = Field(10.0, description="Of the penalty on large features.")


class Augmentation(Strict):
    """Augmentation of the input, drawn anew at every access; targets come from the unchanged recordings.

    The encoder then depends less on rooms, microphones and noise; with `mix_prob` also on other speakers, as in WavLM
    (Chen et al., 2022). HuBERT and wav2vec 2.0 themselves change nothing. Levels stay as they were.
    """

    prob: Fraction = Field(0.8, description="Share of the utterances that get other recording conditions.")
    response_db: Annotated[float, Field(ge=0)] = Field(9.0, description="A random smooth frequency response of at most +- this.")
    snr_db: tuple[float, float] = Field((5.0, 30.0), description="Range of the signal-to-noise ratio of stationary noise.")
    reverberate: bool = Field(True, description="Whether reverberation of 0.1 to 0.5 s is added.")
    mix_prob: Fraction = Field(0.2, description="Share of the utterances that get a piece of another one, at most half as long.")
    mix_db: tuple[float, float] = Field((-10.0, 0.0), description="Range of how much louder than the utterance the piece is.")

    @model_validator(mode="after")
    def _ranges_rise(self) -> Augmentation:
        for key in ("snr_db", "mix_db"):
            low, high = getattr(self, key)
            if low > high:
                raise ValueError(f"{key}: {low:g} is more than {high:g}; the smaller one comes first")
        return self


class _Pretraining(Strict):
    """What all pre-trainings need to know."""

    updates: Positive = 1000
    batch_seconds: PositiveFloat = Field(40.0, description="Seconds of audio in an update.")
    max_seconds: PositiveFloat = Field(10.0, description="Longer recordings are cropped at random to this length.")
    min_seconds: Annotated[float, Field(ge=0)] = Field(0.25, description="Shorter recordings are left out (and counted).")
    repeats: tuple[Positive, ...] = Field(
        (), description="How many times an epoch goes through each corpus, in their order, so that a small one counts; default: once."
    )
    augmentation: Augmentation | None = Field(None, description="Other recording conditions at each hearing; default: none.")
    valid_fraction: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.02
    validate_every: Positive = 200
    seed: Seed = 1337


class PretrainRecipe(_Pretraining):
    """Pre-training: HuBERT's masked prediction of k-means clusters, or wav2vec 2.0's contrastive task."""

    family: Literal["hubert", "wav2vec2"] = "hubert"
    architecture: Architecture = Architecture()
    targets: Literal["mfcc", "own_predictions"] | LayerTargets = Field(
        "mfcc",
        description="HuBERT's targets. mfcc: clusters of MFCC frames at 100 Hz (first iteration). {encoder, layer}: of a "
        "hidden layer (further iterations). own_predictions: what the cluster head of the encoder that training starts from says now.",
    )
    clusters: Positive = Field(100, description="k of k-means.")
    normalize_targets: bool = Field(
        False,
        description="Bring every value that is clustered to mean 0 and deviation 1 over its utterance, so that clusters of mixed "
        "recordings describe sounds and not speakers and microphones. HuBERT itself does not.",
    )
    smooth_targets: Annotated[int, Field(ge=1)] = Field(
        1,
        description="Average what is clustered over this many frames, an odd number (5 MFCC frames: 50 ms): clusters then follow phones "
        "more and noise less. HuBERT itself does not.",
    )
    contrastive: Contrastive = Field(Contrastive(), description="wav2vec 2.0's objective.")
    warmup_updates: Positive = 100
    peak_lr: PositiveFloat = 7e-4
    mask_prob: Fraction = Field(0.5, description="Approximate share of frames under a mask; for wav2vec2 0.65.")
    mask_length: Positive = Field(6, description="Frames of a span; for wav2vec2 10.")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="Of the forward pass; parameters stay in fp32. bf16 pays on GPUs and on CPUs that compute in it (avx512_bf16, amx).",
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_family(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("family") != "wav2vec2":
            return values
        return {"mask_prob": 0.65, "mask_length": 10, **values}

    @model_validator(mode="after")
    def _objective_fits(self) -> PretrainRecipe:
        if self.smooth_targets % 2 == 0:
            raise ValueError(f"smooth_targets {self.smooth_targets} is even: a frame is averaged with as many before as after it")
        foreign = (
            {"contrastive": "wav2vec2"}
            if self.family == "hubert"
            else dict.fromkeys(("targets", "clusters", "normalize_targets", "smooth_targets"), "hubert")
        )
        for key, family in foreign.items():
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} goes with family {family}, not {self.family}")
        if self.architecture.final_dim % self.contrastive.groups and self.family == "wav2vec2":
            raise ValueError(f"final_dim {self.architecture.final_dim} is not a multiple of contrastive.groups {self.contrastive.groups}")
        return self


class ContinuedPretrainRecipe(_Pretraining):
    """Continued pre-training of an encoder on other audio: stage 1 without labels. The schedule is the paper's Stable-FT.

    Family, sizes, dropout and, unless given, masks and contrastive settings are those that the encoder was trained with.
    """

    targets: Literal["mfcc", "own_predictions"] | LayerTargets = Field(
        "own_predictions", description="As in pre-training; for a wav2vec2 encoder without meaning."
    )
    clusters: Positive = Field(100, description="k of k-means; for own_predictions without meaning.")
    normalize_targets: bool = Field(
        False,
        description="Clustered values get mean 0 and deviation 1 over their utterance. For own_predictions without meaning.",
    )
    peak_lr: PositiveFloat = 1e-4
    warmup: Fraction = Field(0.1, description="Share of the updates with linearly rising learning rate.")
    hold: Fraction = Field(0.4, description="Share of the updates at the peak; the rest decays linearly to 0.")
    head_only: Fraction = Field(
        0.1, description="Share of the updates, from the start, that train only what exists for pre-training: cluster head, quantizer."
    )
    freeze_extractor: bool = Field(True, description="Keep the convolutional feature extractor frozen throughout.")
    clip_norm: Annotated[float, Field(ge=0)] = 1.0
    mask_prob: Fraction | None = None
    mask_length: Positive | None = None
    validate_every: Positive = 1000

    @model_validator(mode="after")
    def _phases_fit(self) -> ContinuedPretrainRecipe:
        if self.warmup + self.hold > 1.0:
            raise ValueError(f"warmup + hold = {self.warmup + self.hold:g} is more than 1, nothing is left for the decay")
        return self


class FbankRecipe(Strict):
    """Log-mel filterbanks as an encoder; the defaults are SUPERB's FBANK baseline."""

    mel_bins: int = Field(80, ge=8, le=128, description="Log-mel energies of a frame of 25 ms.")
    deltas: int = Field(2, ge=0, le=2, description="Highest order of the time derivatives appended to the energies.")
    normalize: bool = Field(
        True,
        description="Zero mean and unit deviation of every value over the utterance. The mean over its frames is then zero, so that heads "
        "that average over frames (KS, SID, ER, IC) learn nothing from FBANK, in SUPERB's own numbers too.",
    )
