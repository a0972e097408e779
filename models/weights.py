"""Where a backbone's weights lie, and how they are read without running code from the file."""

import contextlib
import logging
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.utils import get_session
from open_clip.model import CLIPTextCfg
from open_clip.pretrained import download_pretrained
from torch import Tensor

from models.checkpoints import read_checkpoint, state_dict_in
from models.presets import PRETRAINED_MODELS
from utils.errors import UserError
from utils.files import sha256_of

logger = logging.getLogger(__name__)

HUB_FILE = "open_clip_model.safetensors"
OF_TRANSFORMERS = ("vision_model.", "text_model.")  # keys of its own CLIP
NOT_PARAMETERS = ("input_resolution", "context_length", "vocab_size")  # numbers that OpenAI's archives hold


@dataclass(frozen=True)
class Weights:
    """A file of weights."""

    path: Path
    sha256: str  # of its content
    tag: str | None  # of open_clip; "openai" for a file that OpenAI published, None for another one of the user's


def find_weights(model: str, pretrained: str, folder: Path = PRETRAINED_MODELS) -> Weights:
    """Find the weights that `pretrained` stands for, the path of a state dict or one of the model's open_clip tags.

    Published ones are looked for in `folder` and the Hugging Face cache before they are downloaded.
    """
    path = local_weights(model, pretrained, folder) or _download(model, pretrained, folder)
    digest = sha256_of(path)
    of_users = "openai" if digest in _openai_digests() else None
    return Weights(path, digest, tag=of_users if path == Path(pretrained) else pretrained)


def local_weights(model: str, pretrained: str, folder: Path = PRETRAINED_MODELS) -> Path | None:
    """Find the file that `find_weights` finds without a download, None if there must be one."""
    path = Path(pretrained)
    if path.is_file():
        return path
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained not in tags:
        known = f"a tag of {model} ({', '.join(tags)})" if tags else f"({model} has no published weights)"
        raise UserError(f"--pretrained {pretrained}: no such file, nor {known}; give the path of a state dict")
    config = open_clip.get_pretrained_cfg(model, pretrained)
    check_normalisation(config, f"--pretrained {pretrained}")
    for name in (f"{model}-{pretrained}.safetensors", f"{model}-{pretrained}.pt", Path(config.get("url") or "").name):
        if (folder / name).is_file():
            return folder / name
    cached = try_to_load_from_cache(_repository(config), HUB_FILE)
    return Path(cached) if isinstance(cached, str) else None


def check_normalisation(preprocessing: Mapping[str, Any], place: str) -> None:
    """Refuse open_clip's settings, found at `place`, with a `mean` or `std` of images that is not CLIP's."""
    for name, usual in (("mean", open_clip.OPENAI_DATASET_MEAN), ("std", open_clip.OPENAI_DATASET_STD)):
        value = preprocessing.get(name) or usual
        if not isinstance(value, list | tuple) or tuple(value) != tuple(usual):
            raise UserError(
                f"{place}: trained on images normalised by another {name} than CLIP's, {value}, "
                "which the image transform here does not do; choose other weights"
            )


def how_to_get(model: str, tag: str, folder: Path = PRETRAINED_MODELS) -> str:
    """Say in a clause what to download for a published tag, and where to save it."""
    repository = _repository(open_clip.get_pretrained_cfg(model, tag))
    saved = folder / f"{model}-{tag}.safetensors"
    return f"download {HUB_FILE} from https://huggingface.co/{repository} and save it as {saved}"


def _repository(config: Mapping[str, Any]) -> str:
    return config["hf_hub"].rstrip("/")


def _download(model: str, tag: str, folder: Path) -> Path:
    config = open_clip.get_pretrained_cfg(model, tag)
    logger.info("downloading the weights '%s' of %s from %s", tag, model, _repository(config))
    try:
        # Without a network this fails at once, where the client below would try for most of a minute.
        get_session().head(ENDPOINT, timeout=10)
        return Path(download_pretrained(config))
    except Exception as error:  # each of the clients below open_clip raises errors of its own
        raise UserError(
            f"the weights '{tag}' of {model} are not on this machine and {ENDPOINT} gave none: "
            f"{how_to_get(model, tag, folder)}, or give the path of your copy with --pretrained"
        ) from error


def quick_gelu_weights(model: str, tag: str | None) -> tuple[bool, bool]:
    """Tell whether weights were trained with QuickGELU, and whether they are OpenAI's.

    A user's own file, whose tag is None, is taken for what all published weights of that model are: ViT-L-14-336 exists
    from OpenAI only. Of a config JSON nothing is known; one that says `quick_gelu` itself is the caller's to heed.
    """
    tags = [tag] if tag is not None else open_clip.list_pretrained_tags_by_model(model)
    quick = [one == "openai" or open_clip.get_pretrained_cfg(model, one).get("quick_gelu", False) for one in tags]
    return bool(tags) and all(quick), set(tags) == {"openai"}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict from safetensors or a PyTorch file, without unpickling anything but tensors.

    OpenAI's own archives are TorchScript, which holds code; they are read when their SHA-256 is one that OpenAI
    published, and refused otherwise. What a training puts round a state dict is taken off, see `state_dict_in`, and a
    token embedding stored by its used rows is filled up with zeros.
    """
    if not _is_torchscript(path):
        content = read_checkpoint(path)
    elif sha256_of(path) in _openai_digests():
        content = torch.jit.load(path, map_location="cpu").state_dict()
    else:
        raise UserError(
            f"{path} is a TorchScript archive but not one that OpenAI published; such a file can run code, so give "
            "a state dict or safetensors instead"
        )
    content.pop("metadata", None)
    state = {key: value for key, value in state_dict_in(content, path).items() if key not in NOT_PARAMETERS}
    if not state:
        raise UserError(f"{path} holds no state dict")
    if any(key.startswith(OF_TRANSFORMERS) for key in state):
        raise UserError(
            f"{path} is in the form of transformers (vision_model., text_model.), which is not read: get the same "
            "weights in that of open_clip or OpenAI"
        )
    stray = next((key for key, value in state.items() if not isinstance(value, Tensor)), None)
    if stray is not None:
        raise UserError(f"{path} is not a state dict: '{stray}' is not a tensor")
    if "token_embedding.rows" in state:
        rows, ids, size = (state.pop(f"token_embedding.{name}", None) for name in ("rows", "ids", "size"))
        try:
            if int(size) > CLIPTextCfg.vocab_size:
                raise IndexError
            state["token_embedding.weight"] = rows.new_zeros(int(size), rows.shape[1]).index_copy(0, ids.long(), rows)
        except (AttributeError, TypeError, ValueError, ArithmeticError, IndexError, RuntimeError) as error:
            raise UserError(f"{path}: token_embedding.rows, .ids and .size do not fit together") from error
    return state


def _is_torchscript(path: Path) -> bool:
    # The reader of state dicts says what is wrong with a damaged file.
    with contextlib.suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
    return False


def _openai_digests() -> set[str]:
    """SHA-256 of the files that OpenAI published; their addresses hold them."""
    urls = (open_clip.get_pretrained_url(model, "openai") for model in open_clip.list_openai_models())
    return {Path(url).parent.name for url in urls}
