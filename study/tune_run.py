"""Ray Tune's run of a study: banks out, reports in, until the searcher has no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray import tune

from study.ray_private import keep_from_actors
from study.run_folder import RunFolder
from study.search import BankSearcher

AWS_SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")


def train(
    searcher: BankSearcher,
    trainable: Any,
    scheduler: Any,
    run: RunFolder,
    callbacks: Sequence[tune.Callback],
) -> None:
    """Let Ray Tune train until the searcher has no more.

    Args:
        trainable: with its resources.
        scheduler: stops lagging trials; or None.
        callbacks: called as the run goes on.
    """
    # Tune would hand them to its actors by way of a log that outlives the study, in clear. Workers on
    # this machine inherit them, those on others have their own.
    keep_from_actors(AWS_SECRETS)
    tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: f"{trial.config['bank']:04d}-{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name=run.tune.name,
            storage_path=str(run.path.absolute()),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=list(callbacks),
        ),
    ).fit()
