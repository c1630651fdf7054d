"""A copy of a study's folder at its `checkpoints`, renewed after every bank.

A lost head node then costs at most one bank: `radtune run --resume --from PLACE` takes the study up
elsewhere. The copy is written by a thread beside the training, and what a store refuses never stops a study.
"""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

from cohort.errors import InputError
from cohort.files import replacing_folder
from cohort.remote_files import fetch, inside, listed, publish
from study.run_folder import RunFolder

FOLDER = "study"
AGAIN_SECONDS = 15.0
"""After which a store that refused is tried again."""


class StudyCopy:
    """Renews one study's copy.

    Args:
        run: the study's folder.
        place: the study's own within `checkpoints`, a path or a URI.
    """

    def __init__(self, run: RunFolder, place: str) -> None:
        self._run, self.place = run, inside(place, FOLDER)
        self.fault = ""
        """Why the copy is not what the study is; empty where it is."""
        self._there: dict[Path, int] = {}
        """When each file that the place holds was last changed here, in ns."""
        self._newest: list[Path] | None = None
        """The bank files that were there when the copy was last to be renewed."""
        self._changed, self._ending = threading.Condition(), False
        self._thread = threading.Thread(target=self._renew, name="study copy", daemon=True)
        self._thread.start()

    def renew(self) -> None:
        """Have the copy renewed; returns at once. Called between two banks, by who writes the folder."""
        with self._changed:
            self._newest = self._run.bank_files()
            self._changed.notify()

    def close(self) -> str:
        """Renew it a last time and wait for that; returns an empty string, or a line saying what is missing
        there."""
        self.abandon()
        self.renew()
        self._write()
        if not self.fault:
            return ""
        return (
            f"the copy at {self.place} is not up to date ({self.fault}); `radtune run STUDY.yaml --resume` "
            "renews it"
        )

    def abandon(self) -> None:
        """End the thread after the file that it is writing."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join()

    def _renew(self) -> None:
        while True:
            with self._changed:
                if self.fault:
                    self._changed.wait_for(lambda: self._ending, AGAIN_SECONDS)
                self._changed.wait_for(lambda: self._newest is not None or self._ending)
                if self._ending:
                    return
            self._write()

    def _write(self) -> None:
        """Write what is newest; where the store refuses, it stays to be written."""
        banks = self._newest
        if banks is None:
            return
        try:
            for file in [*self._run.kept_in_copy(), *banks]:
                changed = file.stat().st_mtime_ns
                if self._there.get(file) != changed:
                    publish(file, inside(self.place, self._name(file)))
                    self._there[file] = changed
            self.fault = ""
            with self._changed:
                if self._newest is banks:
                    self._newest = None
        except (InputError, OSError) as error:
            self.fault = " ".join(str(error).split())

    def _name(self, file: Path) -> str:
        return file.relative_to(self._run.path).as_posix()


def copied_study_file(place: str) -> bytes:
    """What `study.yaml` holds in the copy at a place; InputError where there is none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        if not fetch(inside(place, f"{FOLDER}/study.yaml"), path):
            raise InputError(f"{inside(place, FOLDER)}: no copy of a study there (study.yaml is missing)")
        return path.read_bytes()


def restore(place: str, run: RunFolder) -> None:
    """Fetch a copy into the study's folder, which must not hold a study.

    Args:
        place: the study's own within `checkpoints`, as `radtune run` names it.

    Raises:
        InputError: no copy there, or a study in the folder.
    """
    place = inside(place, FOLDER)
    names = listed(place)
    if run.study_file.name not in names:
        raise InputError(f"{place}: no copy of a study there (study.yaml is missing)")
    with replacing_folder(run.path, lambda folder: _refuse_study(run)) as staging:
        for name in names:
            fetch(inside(place, name), staging / name)


def _refuse_study(run: RunFolder) -> None:
    if not run.is_empty():
        raise InputError(
            f"{run.path}: this study is here already; resume it without --from, or give another storage"
        )
