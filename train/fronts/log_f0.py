"""A pitch contour: log-F0 where there is a voice, and whether there is one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from typing_extensions import override

from featurestore.format.codec import Floats, Frames
from featurestore.format.plan import Seconds
from featurestore.shared.errors import SerError
from train.fronts import Front, FrontModule, Normalize, by_frame, check_speakers
from train.numerics.align import Alignment, align_pitch
from train.numerics.layers import SMALLEST_SD
from train.reading.labels import EXAMPLES, some
from train.reading.sources import Source

HUNDRED_HZ = 100.0


class LogF0(Front):
    """Height and voicing of a feature whose first channels are F0 in Hz and voicing."""

    normalize: Normalize = "train"
    """By which mean and deviation of the voiced frames log-F0 is standardised: of the training part, of the speaker, of
    the corpus, of the utterance; ``none``: F0 in hundreds of Hz."""

    @override
    def check(self, source: Source) -> None:
        check_speakers(source, self.normalize)
        spec = source.spec
        if spec.channels[:2] != ("f0", "voiced") or source.count != 1:
            held = ", ".join(spec.channels[:EXAMPLES]) or f"{spec.dim} channels without names"
            raise SerError(
                f"{source.name} holds {held}, expected f0 in Hz and voiced: choose another feature, or front"
            )

    @override
    def survey(self, source: Source, names: list[str]) -> list[str]:
        bad, voiced = [], False
        for name in names:
            f0 = source.read(name).decode()[0, :, 0]
            bad += [] if (np.isfinite(f0) & (f0 >= 0)).all() else [name]
            voiced = voiced or bool((f0 > 0).any())
        if bad:
            raise SerError(
                f"f0 in {source.name} of {some(bad)} is negative or not finite: it is damaged; run ser-store verify"
            )
        return [] if voiced else [f"no frame of {source.name} is voiced: the fusion has nothing to work with"]

    @override
    def read(self, source: Source, name: str) -> Frames:
        f0 = _f0(source, name)
        heard = f0 > 0
        if self.normalize == "none":
            return _contour(f0 / HUNDRED_HZ, heard)
        height = np.log(np.where(heard, f0, 1.0))
        if self.normalize != "train":
            mean, sd = self._moments(source, name)
            height = np.where(heard, (height - mean) / sd, 0.0)
        return _contour(height, heard)

    def _moments(self, source: Source, name: str) -> tuple[float, float]:
        if self.normalize == "utterance":
            return _voiced_moments(source, [name])
        return source.of_company(name, self.normalize, _voiced_moments)

    @override
    def align(self, frames: Frames, times: Seconds, clock: Seconds) -> Alignment:
        return align_pitch(frames.values[0, :, 1] > 0, times, clock)

    @override
    def build(self, source: Source, targets: int = 1) -> FrontModule:
        return HeightAndVoicing(self.normalize == "train")


class HeightAndVoicing(FrontModule):
    """See `LogF0`; zero where there is no voice."""

    dim = 2

    def __init__(self, by_training_part: bool) -> None:
        super().__init__()
        self.mean: torch.Tensor
        self.sd: torch.Tensor
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("sd", torch.ones(()))
        self._fits = by_training_part

    @override
    def fit(self, source: Source, names: list[str]) -> None:
        if self._fits:
            mean, sd = _voiced_moments(source, names)
            self.mean.fill_(mean)
            self.sd.fill_(sd)

    @override
    def forward(self, utterances: list[Frames], kept: torch.Tensor | None = None) -> torch.Tensor:
        packed = torch.from_numpy(np.concatenate([frames.values[0] for frames in utterances])).to(self.mean.device)
        height, voiced = packed.unbind(dim=-1)
        heard = torch.stack([(height - self.mean) / self.sd * voiced, voiced], dim=-1)
        return heard if kept is None else heard * by_frame(kept, utterances)


def _f0(source: Source, name: str) -> npt.NDArray[np.float64]:
    """Return F0 of each frame in Hz, 0 where unvoiced."""
    return source.read(name).decode()[0, :, 0].astype(np.float64)


def _contour(height: npt.NDArray[np.float64], voiced: npt.NDArray[np.bool_]) -> Frames:
    values: Floats = np.stack([height, voiced], axis=1).astype(np.float32)
    return Frames(values[None], "float32", 2)


def _voiced_moments(source: Source, names: list[str]) -> tuple[float, float]:
    """Return mean and deviation of log-F0 over the voiced frames of some utterances; 0 and 1 where there are few."""
    heights = [np.log(f0[f0 > 0]) for f0 in (_f0(source, name) for name in names)]
    together = np.concatenate(heights)
    if len(together) < 2:
        return 0.0, 1.0
    return float(together.mean()), max(float(together.std()), SMALLEST_SD)
