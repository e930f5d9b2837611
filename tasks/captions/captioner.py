"""A trained captioner: encoders and a decoder, and their folder."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from preprocess.common.errors import UserError
from preprocess.common.files import write_aside
from preprocess.store.format import release
from tasks.captions.decoder import Decoder
from tasks.captions.evidence import Evidence, channels_of, evidence, has_places
from tasks.captions.language import LANGUAGE, LanguageDecoder, is_language
from tasks.captions.settings import CaptionRecipe
from tasks.captions.vocabulary import Vocabulary
from tasks.model import Model, load
from tasks.sources import Source
from tasks.windows import Windows

TOWERS, DECODER, KEY = "towers.safetensors", "decoder.safetensors", "tristream-captions"


@dataclass(frozen=True)
class Captioner:
    """Encoders and a decoder on one device, in evaluation mode."""

    model: Model
    decoder: Decoder | LanguageDecoder
    recipe: CaptionRecipe
    seconds: float  # the middle length of the videos that it has learned from

    def windows(
        self, source: Source, *, length: float | None = None, hop: float | None = None, **more
    ) -> Iterator[Windows]:
        """As Model.windows; by default a window is as long as the videos that were learned from."""
        length = length or self.seconds
        yield from self.model.windows(source, length=length, hop=hop or length, **more)

    def evidence(self, windows: Windows) -> Evidence:
        """What the decoder attends to."""
        network = self.model.network
        return evidence(network.encoders, windows.towers, windows.sequences, windows.present)


def build_decoder(
    model: Model, recipe: CaptionRecipe, vocabulary: Vocabulary, *, language: Path | None = None
) -> Decoder | LanguageDecoder:
    """A decoder with new weights for a model's streams; with hf:, the language model in `language` or by its name.

    Raises UserError for an unknown decoder, or a language model that cannot be had.
    """
    encoders = model.network.encoders
    channels = channels_of(encoders)
    if is_language(recipe.decoder):
        return LanguageDecoder(recipe.decoder, channels=channels, tune=recipe.tune, folder=language)
    return Decoder(
        vocabulary,
        channels=channels,
        together=[name for name, one in encoders.items() if has_places(one)],
        kind=recipe.decoder,
        width=recipe.channels,
        layers=recipe.layers,
        dropout=recipe.drop,
        word_dropout=recipe.word_dropout,
        shut=recipe.look_price > 0,
    )


def save_captioner(folder: Path, captioner: Captioner, vocabulary: Vocabulary) -> None:
    """Write the decoder beside the towers, with all that is needed to load it."""
    about = {
        "version": release(),
        "recipe": asdict(captioner.recipe),
        "words": vocabulary.words,
        "seconds": captioner.seconds,
    }
    if isinstance(captioner.decoder, LanguageDecoder) and captioner.recipe.tune:
        captioner.decoder.save_language(folder / LANGUAGE)
    raw = save(captioner.decoder.own_weights(), metadata={KEY: json.dumps(about)})
    write_aside(folder / DECODER, lambda part: part.write_bytes(raw))
    text = json.dumps(vocabulary.words, indent=0, ensure_ascii=False)
    write_aside(folder / "vocabulary.json", lambda part: part.write_text(text + "\n", encoding="utf-8"))


def load_captioner(folder: Path, *, device: str = "auto") -> Captioner:
    """The captioner in a folder of `tasks.caption train`.

    Raises UserError if there is none, or a file of it is damaged or of another version.
    """
    path = folder / DECODER
    if not path.is_file():
        raise UserError(f"{folder} holds no captioner: train one with python -m tasks.caption train")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[KEY])
        recipe, vocabulary = CaptionRecipe(**about["recipe"]), Vocabulary(tuple(about["words"]))
        seconds, weights = about["seconds"], load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({str(error).splitlines()[0]}): train it again") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} does not say what it holds ({error}): train it again with this version") from error
    model = load(folder / TOWERS, device=device)
    decoder = build_decoder(model, recipe, vocabulary, language=folder / LANGUAGE if recipe.tune else None)
    try:
        decoder.load_own_weights(weights)
    except RuntimeError as error:
        raise UserError(f"{path} does not fit {folder / TOWERS}: {str(error).splitlines()[0]}") from error
    return Captioner(model, decoder.to(model.device).eval(), recipe, seconds)


@torch.no_grad()
def write_captions(captioner: Captioner, windows: Windows, *, streams: tuple[str, ...], beam: int) -> list:
    """The Sentence of each window, from these of its streams."""
    return captioner.decoder.captions(captioner.evidence(windows).only(streams), beam=beam)
