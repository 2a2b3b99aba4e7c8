"""Any folder of audio without labels, e.g. new recordings for which a trained model is to predict.

ser-extract --dataset folder --root recordings --like stores/emotale.zarr --store stores/recordings.zarr
"""

from __future__ import annotations

from typing import ClassVar

import pandas as pd
from typing_extensions import override

from extract.audio_files import AudioFiles, walk
from extract.datasets import Dataset
from extract.labels import Labels, readable
from featurestore.shared.errors import DatasetError


class Folder(Dataset):
    """Every audio file in a folder and its subfolders is an utterance, named by its path without the ending.

    Hidden files and folders are ignored. Links to folders are followed; each folder is read once.
    """

    layout: ClassVar[str] = "a folder with audio files, at any depth"

    @override
    def labels(self) -> Labels:
        root, files = self.folder(), AudioFiles()
        left_out: dict[str, str] = {}
        paths: dict[str, str] = {}
        for folder in walk(root, left_out):
            for stem, names in files.stems(folder).items():
                path = folder.relative_to(root)
                name, file = (path / stem).as_posix(), (path / (names[0] if len(names) == 1 else stem)).as_posix()
                if readable(name) == name:
                    paths[name] = file
                else:
                    left_out[readable(name)] = "the name of its file, or of a folder, is not UTF-8: rename it"
        if not paths and not left_out:
            raise DatasetError(f"dataset folder: no audio file in {root}; expected {self.layout}")
        table = pd.DataFrame({"path": paths.values()}, index=pd.Index(paths.keys(), name="name"), dtype=object)
        return Labels(table.sort_index(), left_out=left_out)
