"""The command ser-train: from a feature store to a trained model and honest numbers.

ser-train --store stores/emotale.zarr fusion=attention splits=kfold splits.k=6
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from featurestore.command import INCOMPLETE, run, say
from featurestore.config import load
from featurestore.errors import ConfigError
from featurestore.listing import say_list
from train.protocol_commands import app as protocol_app

app = App(name="ser-train", version_flags=[], default_parameter=Parameter(negative=()))
app.command(protocol_app)


@app.default
def main_command(
    *overrides: Annotated[str, Parameter(allow_leading_hyphen=False)],
    store: str | None = None,
    config: tuple[Path, ...] = (),
    workers: int | None = None,
    scheduler: str | None = None,
    list_: Annotated[tuple[str, ...] | None, Parameter(name="--list", consume_multiple=True)] = None,
) -> int:
    """Train a layer-weighted fusion model on stored features, and test it once, on every fold.

    Writes runs/DATASET/FEATURE/METHOD/exp_N with the models, predictions, figures and plots. By default: V, A and D
    together, pitch attending to the hidden states, speaker-independent folds, against a ridge on the same folds.

    Args:
        overrides: Any setting as KEY=VALUE: fusion=concat targets=[V,A] splits=leave_one_out optim.lr=3e-4
        store: The feature store that ser-extract wrote, or its URL; needed except with --list.
        config: YAML file with settings; given more than once, the last one wins.
        workers: Processes of one thread each; the results are the same with any number.
        scheduler: The address of a dask scheduler whose workers do the work instead.
        list_: Print what can be set, or all of a setting, section, kind of parts or part: --list optim fusion.attention
    """
    from train.config import TrainConfig

    if list_ is not None:
        say_list(TrainConfig, list_)
        return 0
    if store is None:
        raise ConfigError("--store is missing: expected the feature store that ser-extract wrote, or its URL")
    import featurestore
    from train.run import run as train

    asked = {"workers": workers, "scheduler": scheduler}
    given = [f"{key}={value}" for key, value in asked.items() if value is not None]
    folder, _ = train(featurestore.open(store), load(TrainConfig, config, [*overrides, *given]), say)
    say(f"run: {folder}")
    return 0


@app.command
def resume(run: Path) -> int:
    """Go on with a run that was interrupted, from the last epoch of each of its models.

    Args:
        run: The folder of the run.
    """
    from train.run import resume as go_on

    folder, _ = go_on(run, say)
    say(f"run: {folder}")
    return 0


@app.command
def predict(*, run: Path, store: str, out: Path | None = None, device: str | None = None) -> int:
    """Predict a store with the models of a run.

    Utterances that the run tested are predicted by the models of their fold, exactly as the run did; others by all of
    its models, averaged.

    Args:
        run: The folder of the run.
        store: The feature store, or its URL: with the features of the run, in any data type.
        out: The CSV file; what it holds is printed when absent.
        device: cpu, cuda …; that of the run when absent.
    """
    from train.predicting import write_predictions

    return INCOMPLETE if write_predictions(run, store, out, device, say) else 0


def main() -> None:
    """Run ser-train."""
    run(app, "interrupted")
