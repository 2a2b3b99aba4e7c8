"""Files that are cut or damaged are never accepted in silence, and those that are whole are not refused."""

import numpy as np
import pytest
import soundfile

import featurestore
from extract.audio import NO_LENGTH, AudioError, count_samples, read_recording
from extract.audio_files import suffixes
from extract.whole import NotWholeError, check_mp3, check_ogg
from tests.extract.samples import SHARED, noise, ser_extract, shared

SECONDS = 3
WAVE = noise(SECONDS * 16_000) * np.abs(np.sin(np.linspace(0, 20, SECONDS * 16_000))).astype(np.float32)
WRITTEN = [
    (kind, subtype)
    for kind in sorted(soundfile.available_formats())
    for subtype in soundfile.available_subtypes(kind)
    if soundfile.check_format(kind, subtype) and kind not in ("RAW", "SD2")
]
CANNOT_BE_WRITTEN = {("AIFF", "DWVW_12"), ("MP3", "MPEG_LAYER_I"), ("MP3", "MPEG_LAYER_II"), ("WAV", "MPEG_LAYER_III")}
UNKNOWN = "its length cannot be checked: "


def write(file, subtype=None, kind=None, rate=16_000, **how):
    soundfile.write(file, WAVE, rate, subtype, format=kind, **how)
    return file


def judge(file):
    """Return the remark on a file, or why it is refused."""
    try:
        count_samples(file)
        return read_recording(file).remark
    except AudioError as error:
        return f"refused: {error}"


@pytest.mark.parametrize(("kind", "subtype"), [one for one in WRITTEN if one not in CANNOT_BE_WRITTEN])
def test_every_subtype_is_accepted_whole_and_named_when_it_is_cut(tmp_path, kind, subtype):
    file = write(tmp_path / f"a.{kind.lower()}", subtype, kind, 44_100 if kind in ("MPC2K", "XI") else 16_000)
    remark = judge(file)
    assert remark.startswith(UNKNOWN) if kind in NO_LENGTH else remark == ""
    whole = file.read_bytes()
    for share in (0.5, 0.9):
        file.write_bytes(whole[: int(len(whole) * share)])
        assert judge(file).startswith(UNKNOWN if kind in NO_LENGTH else "refused: the audio file")


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_file_is_cut_or_damaged_anywhere(tmp_path, subtype):
    file = write(tmp_path / "a.ogg", subtype)
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    check_ogg(whole)
    check_ogg(whole + whole)  # a chain
    check_ogg(whole + b"TAG" + bytes(125))
    for cut in rng.integers(1, len(whole), 40).tolist():
        with pytest.raises(NotWholeError, match=r"truncated|damaged"):
            check_ogg(whole[:cut])
    for place in rng.integers(100, len(whole) - 200, 40).tolist():
        file.write_bytes(whole[:place] + rng.bytes(200) + whole[place + 200 :])
        assert judge(file).startswith("refused: the audio file")
    pages = [i for i in range(len(whole)) if whole[i : i + 4] == b"OggS"]
    assert len(pages) > 4
    without_one = whole[: pages[3]] + whole[pages[4] :]
    with pytest.raises(NotWholeError, match=f"damaged: pages are missing before byte {pages[3]}"):
        check_ogg(without_one)
    with pytest.raises(NotWholeError, match="truncated: its last page does not end the stream"):
        check_ogg(whole[: pages[-1]])


def frames_of(data):
    """Return where the frames of an MP3 file of `soundfile` begin: the first has the count."""
    from extract.whole import _first_frame, _frame

    starts, position = [], _first_frame(data)
    while position < len(data):
        starts.append(position)
        position += _frame(data, position).size
    return starts


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
@pytest.mark.parametrize("mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
def test_an_mp3_file_is_cut_anywhere(tmp_path, mode, rate):
    file = write(tmp_path / "a.mp3", rate=rate, bitrate_mode=mode)
    assert judge(file) == ""
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    starts = frames_of(whole)
    bare = whole[starts[1] :]  # without the count
    old = bytes(range(68)) + b"APETAGEX" + (1000).to_bytes(4, "little") + (100).to_bytes(4, "little") + bytes(16)
    for tagged in (
        tags_before() + whole + tags_after(),
        whole + bytes(300),
        whole + old,
        whole + old + tags_after()[-128:],
    ):
        assert check_mp3(tagged) == ""
    assert check_mp3(tags_before() + bare + tags_after()).startswith(UNKNOWN)
    for cut in rng.integers(starts[1], len(whole), 20).tolist():
        with pytest.raises(NotWholeError, match="truncated"):
            check_mp3(whole[:cut])
    for start in starts[2:5]:
        with pytest.raises(NotWholeError, match=r"truncated: its header counts \d+ frames, it holds \d+"):
            check_mp3(whole[:start])
        assert check_mp3(whole[starts[1] : start]).startswith(UNKNOWN)  # what is left has no sign of it
    for cut in {*range(starts[4] - starts[1], starts[6] - starts[1])} - {start - starts[1] for start in starts}:
        with pytest.raises(NotWholeError, match="truncated"):
            check_mp3(bare[:cut])
    middle = starts[len(starts) // 2]
    with pytest.raises(NotWholeError, match=f"damaged: no frame at byte {middle}"):
        check_mp3(whole[:middle] + b"\0\1\2\3" + whole[middle + 4 :])


def tags_before():
    return b"ID3\4\0\0\0\0\1\0" + bytes(128)


def tags_after():
    ape = b"APETAGEX" + (2000).to_bytes(4, "little") + (32).to_bytes(4, "little") + bytes(4)
    return ape + b"\0\0\0\xa0" + bytes(8) + b"TAG" + bytes(125)


def test_a_flac_file_whose_samples_are_others_is_damaged(tmp_path):
    """The MD5 is of all samples; here another one is in the header, as frames have checksums of their own."""
    for bits, channels in (("PCM_S8", 1), ("PCM_16", 2), ("PCM_24", 3)):
        file = tmp_path / f"{bits}.flac"
        soundfile.write(file, np.repeat(WAVE[:, None], channels, axis=1), 16_000, bits)
        assert judge(file) == ""
        content = bytearray(file.read_bytes())
        content[30] ^= 1
        file.write_bytes(content)
        assert judge(file) == "refused: the audio file is damaged: the MD5 of its samples is not the one in its header"
        content[26:42] = bytes(16)  # not known
        file.write_bytes(content)
        assert judge(file) == ""


def test_a_wav_file_of_a_stream_cannot_be_checked(tmp_path):
    file = write(tmp_path / "a.wav")
    content = bytearray(file.read_bytes())
    content[40:44] = b"\xff\xff\xff\xff"
    file.write_bytes(content)
    assert judge(file) == f"{UNKNOWN}its header is that of a stream"


def test_what_macos_leaves_beside_a_file_is_no_part_of_it(tmp_path):
    file = write(tmp_path / "a.mp3")
    (tmp_path / "._a.mp3").write_bytes(b"\0\5\26\7" + bytes(400))
    assert judge(file) == ""
    assert len(read_recording(file).wave) == count_samples(file) == len(WAVE)


def test_the_real_files_are_whole():
    shared("corpora")
    files = [file for file in sorted(SHARED.glob("corpora/*/*/*")) if file.suffix.lower() in suffixes()][::9]
    assert len(files) > 50
    for file in files:
        remark = judge(file)
        assert not remark.startswith("refused")
        assert UNKNOWN not in remark


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_not_whole_fails_by_name_and_the_rest_goes_on(tmp_path, workers):
    (tmp_path / "in").mkdir()
    for name, ending in (("good", "ogg"), ("cut", "ogg"), ("bare", "mp3")):
        write(tmp_path / f"in/{name}.{ending}")
    cut, bare = tmp_path / "in/cut.ogg", tmp_path / "in/bare.mp3"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    bare.write_bytes(bare.read_bytes()[frames_of(bare.read_bytes())[1] :])
    arguments = [
        "--dataset",
        "folder",
        "--root",
        tmp_path / "in",
        "--features",
        "logmel,mfcc",
        "--store",
        tmp_path / "s.h5",
    ]
    result = ser_extract(*arguments, f"workers={workers}", "shard_seconds=2")
    assert result.returncode == 3, result.stderr
    store = featurestore.open(tmp_path / "s.h5")
    for feature in ("logmel", "mfcc"):
        assert store.names([feature]) == ["bare", "good"]
        assert store.feature(feature).failed["cut"].startswith("the audio file is truncated: its last page")
        assert store.feature(feature).flagged["bare"].startswith(UNKNOWN)
    lines = result.stdout.splitlines()
    assert [line for line in lines if line.startswith("flagged: ")] == [
        f"flagged: bare: {store.feature('mfcc').flagged['bare']}"
    ]
    assert "0 left out, 2 failed, 1 flagged" in lines[-1]
