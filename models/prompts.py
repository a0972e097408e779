"""The prompt ensemble: every template filled with every state phrase, for what a class is called."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from utils.errors import UserError

PROMPT_FOLDER = Path(__file__).resolve().parent / "prompts"


@dataclass(frozen=True)
class PromptEnsemble:
    """State phrases and templates; `{}` stands for the object, and in a template for the filled state."""

    normal: tuple[str, ...]
    anomalous: tuple[str, ...]
    templates: tuple[str, ...]

    def sentences(self, phrase: str) -> tuple[list[str], list[str]]:
        """All normal and all anomalous sentences about what is called `phrase`."""
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
        """The ensemble as a file of it may hold it, see `parse_prompts`."""
        return {"sha256": self.sha256, **{name: list(phrases) for name, phrases in asdict(self).items()}}


def prompt_files() -> list[str]:
    """Names of the ensembles that come with the project."""
    return sorted(path.stem for path in PROMPT_FOLDER.glob("*.json"))


def read_prompts(name_or_path: str) -> PromptEnsemble:
    """Read an ensemble by its name in `models/prompts/`, or from the path of a JSON file of the same form."""
    known = prompt_files()
    path = PROMPT_FOLDER / f"{name_or_path}.json" if name_or_path in known else Path(name_or_path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--prompts {name_or_path}: neither one of {', '.join(known)} nor a readable file") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    return parse_prompts(content, str(path))


def parse_prompts(content: Any, where: str) -> PromptEnsemble:
    """Take an ensemble from the content of a file; `where` names the place in messages."""
    keys = [field.name for field in fields(PromptEnsemble)]
    for key in keys:
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not entries:
            raise UserError(f"{where}: '{key}' must be a list of phrases")
        for number, entry in enumerate(entries, 1):
            if not isinstance(entry, str) or entry.count("{}") != 1:
                raise UserError(f"{where}: entry {number} of '{key}' must be a string with one {{}} in it")
    return PromptEnsemble(**{key: tuple(content[key]) for key in keys})
