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
    """Sizes of an encoder to pre-train; by default 1.8 million parameters."""

    extractor: tuple[ConvolutionLayer, ...] = SMALL_EXTRACTOR
    layers: Positive = 3
    hidden_size: Positive = 192
    ffn_size: Positive = 768
    attention_heads: Positive = 4
    conv_pos: Positive = 128
    conv_pos_groups: Positive = 16
    final_dim: Positive = Field(64, description="Dimension in which predictions are compared with targets.")
    dropout: Fraction = 0.1


class LayerTargets(Strict):
    """HuBERT's targets from the second iteration on: k-means clusters of an encoder's hidden states."""

    encoder: str | None = Field(None, description="An encoder of the experiment; default: the one that training starts from.")
    layer: Annotated[int, Field(ge=0)] = Field(
        description="Index of the hidden state: 0 is the input of the first transformer layer, L the output of the last."
    )


class Contrastive(Strict):
    """wav2vec 2.0's objective: identify the quantized latent of a masked frame among those of others (Baevski et al., 2020)."""

    negatives: Positive = Field(100, description="Number of distractors: other masked frames of the same utterance.")
    groups: Positive = Field(2, description="Number of codebooks of the quantizer.")
    entries: Annotated[int, Field(ge=2)] = Field(160, description="Entries per codebook; 320 in the published models.")
    temperature: tuple[PositiveFloat, PositiveFloat] = Field(
        (2.0, 0.5),
        description="Temperature of the Gumbel softmax: decays geometrically from the first to the second value over 70 % of the updates, "
        "as published.",
    )
    diversity_weight: Annotated[float, Field(ge=0)] = Field(
        0.1, description="Weight of the diversity loss, which favors equal use of all entries."
    )
    penalty_weight: Annotated[float, Field(ge=0)] = Field(10.0, description="Weight of the penalty on large features.")


class Augmentation(Strict):
    """Augmentation of the input, random at every access; targets come from the original recordings.

    It makes the encoder more robust to rooms, microphones and noise, and with `mix_prob` to other speakers, as in WavLM
    (Chen et al., 2022). HuBERT and wav2vec 2.0 do not augment. Levels are preserved.
    """

    prob: Fraction = Field(0.8, description="Share of the utterances with simulated recording conditions.")
    response_db: Annotated[float, Field(ge=0)] = Field(9.0, description="Maximum deviation, in dB, of a random smooth frequency response.")
    snr_db: tuple[float, float] = Field((5.0, 30.0), description="Range of the signal-to-noise ratio of stationary noise, in dB.")
    reverberate: bool = Field(True, description="Whether to add reverberation of 0.1 to 0.5 s.")
    mix_prob: Fraction = Field(
        0.2, description="Share of the utterances mixed with a piece of another one, at most half as long as the utterance."
    )
    mix_db: tuple[float, float] = Field((-10.0, 0.0), description="Range of the level of the piece relative to the utterance, in dB.")

    @model_validator(mode="after")
    def _ranges_rise(self) -> Augmentation:
        for key in ("snr_db", "mix_db"):
            low, high = getattr(self, key)
            if low > high:
                raise ValueError(f"{key}: {low:g} is more than {high:g}; write the smaller value first")
        return self


class _Pretraining(Strict):
    """Keys of every pre-training."""

    updates: Positive = 1000
    batch_seconds: PositiveFloat = Field(40.0, description="Seconds of audio per update.")
    max_seconds: PositiveFloat = Field(10.0, description="Longer recordings are randomly cropped to this length.")
    min_seconds: Annotated[float, Field(ge=0)] = Field(0.25, description="Shorter recordings are dropped (and counted).")
    repeats: tuple[Positive, ...] = Field(
        (), description="Repetitions per epoch of each corpus, in their order, to give small ones more weight; default: once."
    )
    augmentation: Augmentation | None = Field(None, description="Augmentation of the input; default: none.")
    valid_fraction: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.02
    validate_every: Positive = 200
    seed: Seed = 1337


class PretrainRecipe(_Pretraining):
    """Pre-training with HuBERT's masked prediction of k-means clusters, or wav2vec 2.0's contrastive task."""

    family: Literal["hubert", "wav2vec2"] = "hubert"
    architecture: Architecture = Architecture()
    targets: Literal["mfcc", "own_predictions"] | LayerTargets = Field(
        "mfcc",
        description="HuBERT's targets. mfcc: clusters of MFCC frames at 100 Hz (first iteration). {encoder, layer}: clusters of an "
        "encoder's hidden states (later iterations). own_predictions: predictions of the cluster head of the encoder that training "
        "starts from.",
    )
    clusters: Positive = Field(100, description="k of k-means.")
    normalize_targets: bool = Field(
        False,
        description="Normalize clustered features to mean 0 and deviation 1 over each utterance, so that clusters reflect sounds rather "
        "than speakers and microphones. HuBERT does not.",
    )
    smooth_targets: Annotated[int, Field(ge=1)] = Field(
        1,
        description="Average clustered features over this many frames, an odd number (5 MFCC frames: 50 ms), so that clusters reflect "
        "phones rather than noise. HuBERT does not.",
    )
    contrastive: Contrastive = Field(Contrastive(), description="wav2vec 2.0's objective.")
    warmup_updates: Positive = 100
    peak_lr: PositiveFloat = 7e-4
    mask_prob: Fraction = Field(0.5, description="Approximate share of masked frames; default for wav2vec2: 0.65.")
    mask_length: Positive = Field(6, description="Frames per masked span; default for wav2vec2: 10.")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="Precision of the forward pass; parameters stay in fp32. bf16 is faster on GPUs and on CPUs that support it "
        "(avx512_bf16, amx).",
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
            raise ValueError(f"smooth_targets {self.smooth_targets} is even; give an odd number, because windows are centered")
        foreign = (
            {"contrastive": "wav2vec2"}
            if self.family == "hubert"
            else dict.fromkeys(("targets", "clusters", "normalize_targets", "smooth_targets"), "hubert")
        )
        for key, family in foreign.items():
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} is a key of family {family}, not {self.family}")
        if self.architecture.final_dim % self.contrastive.groups and self.family == "wav2vec2":
            raise ValueError(f"final_dim {self.architecture.final_dim} is not a multiple of contrastive.groups {self.contrastive.groups}")
        return self


class ContinuedPretrainRecipe(_Pretraining):
    """Continued pre-training of an encoder on other audio: stage 1 without labels. The schedule is the paper's Stable-FT.

    Family, sizes and dropout are those of the encoder; so are masking and contrastive settings unless given.
    """

    targets: Literal["mfcc", "own_predictions"] | LayerTargets = Field(
        "own_predictions", description="As in pre-training; ignored for a wav2vec2 encoder."
    )
    clusters: Positive = Field(100, description="k of k-means; ignored for own_predictions.")
    normalize_targets: bool = Field(
        False,
        description="Normalize clustered features to mean 0 and deviation 1 over each utterance. Ignored for own_predictions.",
    )
    peak_lr: PositiveFloat = 1e-4
    warmup: Fraction = Field(0.1, description="Share of the updates with linearly increasing learning rate.")
    hold: Fraction = Field(0.4, description="Share of the updates at peak_lr; the learning rate then decays linearly to 0.")
    head_only: Fraction = Field(
        0.1, description="Share of the updates, from the start, that train only the parts used in pre-training: cluster head, quantizer."
    )
    freeze_extractor: bool = Field(True, description="Keep the convolutional feature extractor frozen throughout.")
    clip_norm: Annotated[float, Field(ge=0)] = 1.0
    mask_prob: Fraction | None = None
    mask_length: Positive | None = None
    validate_every: Positive = 1000

    @model_validator(mode="after")
    def _phases_fit(self) -> ContinuedPretrainRecipe:
        if self.warmup + self.hold > 1.0:
            raise ValueError(f"warmup + hold = {self.warmup + self.hold:g} is more than 1, which leaves nothing for the decay")
        return self


class FbankRecipe(Strict):
    """Log-mel filterbanks as an encoder; the defaults are SUPERB's FBANK baseline."""

    mel_bins: int = Field(80, ge=8, le=128, description="Log-mel energies per frame of 25 ms.")
    deltas: int = Field(2, ge=0, le=2, description="Highest order of the time derivatives appended to the energies.")
    normalize: bool = Field(
        True,
        description="Normalize to mean 0 and deviation 1 over each utterance. Heads that average over frames (KS, SID, ER, IC) then learn "
        "nothing, as in SUPERB's own FBANK numbers.",
    )
