"""Which family each type of model is of."""

from __future__ import annotations

from extract.encoders.backbone import Backbone
from extract.encoders.data2vec import Data2VecBackbone
from extract.encoders.w2v_bert import W2vBertBackbone
from extract.encoders.waveform import WaveformBackbone
from extract.encoders.whisper import WhisperBackbone

FAMILIES: dict[str, type[Backbone]] = {
    "data2vec-audio": Data2VecBackbone,
    "hubert": WaveformBackbone,
    "unispeech-sat": WaveformBackbone,
    "wav2vec2": WaveformBackbone,
    "wav2vec2-bert": W2vBertBackbone,
    "wavlm": WaveformBackbone,
    "whisper": WhisperBackbone,
}
