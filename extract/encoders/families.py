"""The backbone class of each model type."""

from __future__ import annotations

from extract.encoders.backbone import Backbone
from extract.encoders.w2v_bert import W2vBertBackbone
from extract.encoders.waveform import WaveformBackbone
from extract.encoders.wavlm import WavLMBackbone
from extract.encoders.whisper import WhisperBackbone

FAMILIES: dict[str, type[Backbone]] = {
    "data2vec-audio": WaveformBackbone,
    "hubert": WaveformBackbone,
    "unispeech-sat": WaveformBackbone,
    "wav2vec2": WaveformBackbone,
    "wav2vec2-bert": W2vBertBackbone,
    "wavlm": WavLMBackbone,
    "whisper": WhisperBackbone,
}
