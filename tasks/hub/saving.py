"""What a model does to be published: the calls of huggingface_hub's ModelHubMixin, over our own folder.

Its own class would not do: it sets attributes of what is loaded, and a Model is frozen; it is imported with it, and
huggingface_hub is an extra; and it builds a model from config.json, where our file of weights is enough by itself.
"""

import os
import tempfile
from pathlib import Path

from fusion.model import FusionModel
from fusion.training.run import About
from fusion.training.settings import TrainSettings
from preprocess.common.errors import UserError
from preprocess.common.files import local_path
from tasks.exported.network import ExportedNetwork
from tasks.hub.card import Evidence, model_card
from tasks.hub.fetch import check_name, push
from tasks.hub.folder import write_folder


class Saving:
    """The part of a Model that writes and uploads it."""

    path: Path
    network: FusionModel | ExportedNetwork
    classes: list[str]
    settings: TrainSettings
    parameters: dict
    release: str

    def save_pretrained(
        self, folder: str | os.PathLike, *, evidence: Evidence | None = None, title: str = "", repo: str | None = None
    ) -> None:
        """Write a new folder that `load` and `from_pretrained` take.

        Args:
            evidence: what its card says beside what the model knows of itself; tasks.publish gathers it.
            title: of the card; the default is the folder's name.
            repo: the name on the hub, for the card.

        Raises:
            UserError: the folder is there; the model is an exported one, or cannot be built elsewhere.
        """
        if isinstance(self.network, ExportedNetwork):
            raise UserError(f"{self.path} is an exported model: publish the run that it was made of")
        out, about = local_path(folder), About(self.release, self.settings, self.classes, self.parameters)
        card = model_card(about, evidence or Evidence(), title=title or out.name, repo=repo)
        write_folder(out, self.network, about, card=card)

    def push_to_hub(
        self, repo: str, *, evidence: Evidence | None = None, private: bool = False, token: str | None = None
    ) -> str:
        """Upload such a folder to OWNER/NAME on the Hugging Face hub; return the commit's address.

        Raises UserError as save_pretrained does; for a name of another form; if the hub does not take it.
        """
        check_name(repo)
        title = repo.partition("/")[2]
        with tempfile.TemporaryDirectory() as place:
            out = Path(place, "model")
            self.save_pretrained(out, evidence=evidence, title=title, repo=repo)
            return push(out, repo, private=private, token=token, message=f"{title} by tristream")
