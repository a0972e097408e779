"""The prompt ensemble: every template filled with every state phrase, for what a class is called."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.json_files import read_json

PROMPT_FOLDER = Path(__file__).resolve().parent / "prompts"
MOST_SENTENCES = 1 << 16  # of a state


@dataclass(frozen=True)
class PromptEnsemble:
    """State phrases and templates; `{}` stands for the object, and in a template for the filled state."""

    normal: tuple[str, ...]
    anomalous: tuple[str, ...]
    templates: tuple[str, ...]

    def __post_init__(self) -> None:
        for name, phrases in vars(self).items():
            if not phrases:
                raise ValueError(f"'{name}' must be a list of phrases")
            for number, phrase in enumerate(phrases, 1):
                if phrase.count("{}") != 1:
                    raise ValueError(f"entry {number} of '{name}' must have one {{}} in it")
        if max(len(self.normal), len(self.anomalous)) * len(self.templates) > MOST_SENTENCES:
            raise ValueError(f"phrases and templates make more than {MOST_SENTENCES} sentences of a state")

    def sentences(self, phrase: str) -> tuple[list[str], list[str]]:
        """Make all normal and all anomalous sentences about what is called `phrase`."""
        normal, anomalous = (
            [template.replace("{}", state.replace("{}", phrase)) for state in states for template in self.templates]
            for states in (self.normal, self.anomalous)
        )
        return normal, anomalous

    @property
    def sha256(self) -> str:
        """Tells one ensemble from another."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """The ensemble as a file of it may hold it."""
        return {"sha256": self.sha256, **{name: list(phrases) for name, phrases in asdict(self).items()}}


def prompt_files() -> list[str]:
    """List the names of the ensembles that come with the project."""
    return sorted(path.stem for path in PROMPT_FOLDER.glob("*.json"))


def read_prompts(name_or_path: str) -> PromptEnsemble:
    """Read an ensemble by its name in `models/prompts/`, or from the path of a JSON file of the same form."""
    known = prompt_files()
    path = PROMPT_FOLDER / f"{name_or_path}.json" if name_or_path in known else Path(name_or_path)
    if not path.is_file():
        raise UserError(f"--prompts {name_or_path}: neither one of {', '.join(known)} nor a readable file")
    return read_json(path, PromptEnsemble)
