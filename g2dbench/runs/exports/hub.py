"""A run as a repository of the Hugging Face hub, or as a local folder with the same files.

    HubRun.from_pretrained("lab/g2d").load()      the model, on the CPU in eval mode
    HubRun(run_folder).push_to_hub("lab/g2d")     uploads the run

A repository has the files of a run folder (`runs/folder.py`), so that a downloaded one is also a
`--model` argument. Only these files are downloaded, and no code in them is executed.
"""

import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin, snapshot_download

from g2dbench.errors import BadCheckpoint
from g2dbench.model import Model
from g2dbench.pretrained.text.tokenizer import TOKENIZER_FILE
from g2dbench.registry import Registry
from g2dbench.runs.folder import RUN_FILE, WEIGHTS_FILE, load_run

FILES = (RUN_FILE, WEIGHTS_FILE, TOKENIZER_FILE)
"""What a model needs of its run folder."""


class HubRun(ModelHubMixin, library_name="g2dbench", tags=["chest-x-ray"]):  # type: ignore[call-arg]
    """A finished run folder with `save_pretrained`, `from_pretrained` and `push_to_hub`."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def load(self, registry: Registry | None = None) -> Model:
        """The model; BadCheckpoint for a run that is incomplete or damaged."""
        return load_run(self.folder, registry)

    def _save_pretrained(self, save_directory: Path) -> None:
        copy_run(self.folder, Path(save_directory))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> "HubRun":
        """A run from a local folder or a repository; options as in `snapshot_download`.

        Raises BadCheckpoint for what is neither a folder nor can be downloaded.
        """
        name = str(pretrained_model_name_or_path)
        if Path(name).is_dir():
            return cls(name)
        try:
            return cls(snapshot_download(name, allow_patterns=list(FILES), **options))
        except (OSError, ValueError) as error:
            raise BadCheckpoint(
                f"{name} is neither a folder nor a repository that can be downloaded "
                f"({str(error).splitlines()[0]}); on a connected machine run "
                f"`hf download {name} --local-dir FOLDER` and give FOLDER"
            ) from error


def copy_run(run: Path, out: Path) -> None:
    """Copy the files that a model needs; BadCheckpoint for a run that has not all of them."""
    for name in FILES:
        if not (run / name).is_file():
            raise BadCheckpoint(f"the run in {run} has no {name}: is it finished?")
        shutil.copyfile(run / name, out / name)
