"""Data sets of the Hugging Face hub by their id, as the Parquet files that the hub makes of every public one."""

import re
from dataclasses import dataclass
from pathlib import Path

from medx_core.data.problems import FileRefused

_ID = re.compile(r"([\w.-]+/[\w.-]+?)(?::([\w.-]+))?")
_FILE_ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet", ".json", ".txt", ".xlsx")
_WAIT_SECONDS = 10.0
_EXPORT = "refs/convert/parquet"
_SPLITS = ("train", "test", "validation")


@dataclass(frozen=True)
class HubDataSet:
    """A data set of the hub. `part` is one of its splits, "" for the only or the first one."""

    id: str
    part: str = ""

    @property
    def name(self) -> str:
        """The id as it is written on the command line."""
        return f"{self.id}:{self.part}" if self.part else self.id


@dataclass(frozen=True)
class FetchedPart:
    """The files of one split, in order, and a sentence that says which it is."""

    files: tuple[Path, ...]
    notice: str


def as_hub_data_set(source: str) -> HubDataSet | None:
    """Return the data set that `source` names as "owner/name[:split]", None when it reads like a path."""
    match = _ID.fullmatch(source)
    if match is None or source.lower().endswith(_FILE_ENDINGS) or source.startswith("."):
        return None
    return HubDataSet(match[1], match[2] or "")


def fetch(data_set: HubDataSet, *, endpoint: str | None = None, cache: Path | None = None) -> FetchedPart:
    """Fetch one split; what was fetched before is taken from the cache. `endpoint` is another hub's address.

    Raises:
        FileRefused: the hub cannot be reached, has no such data set or split, or does not give it to everybody.
    """
    # Here, so that reading a file never waits for the hub's client.
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError is that of its HTTP client
        GatedRepoError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    shown = data_set.name
    try:
        about = HfApi(endpoint=endpoint).dataset_info(data_set.id, revision=_EXPORT, timeout=_WAIT_SECONDS)
        listed = [each.rfilename for each in about.siblings or ()]
        folder, names, notice = _chosen(data_set, listed)
        files = tuple(
            Path(
                hf_hub_download(
                    data_set.id,
                    name,
                    repo_type="dataset",
                    revision=_EXPORT,
                    endpoint=endpoint,
                    cache_dir=cache,
                )
            )
            for name in names
        )
    except GatedRepoError as error:
        raise FileRefused(
            f"The data set {shown} needs its owner's permission; download it by hand."
        ) from error
    except RepositoryNotFoundError as error:
        raise FileRefused(
            f"The hub has no public data set {shown}, and there is no file of that name."
        ) from error
    except RevisionNotFoundError as error:
        raise FileRefused(
            f"The hub has no Parquet export of {shown}; download it and give the file."
        ) from error
    except (HTTPError, OSError, ValueError) as error:
        raise FileRefused(
            f"There is no file {shown}, and the Hugging Face hub, where a data set could have that name, cannot be "
            "reached; check the path or the network."
        ) from error
    return FetchedPart(files, f"Read {folder} of the data set {data_set.id}. {notice}".strip())


def _chosen(data_set: HubDataSet, listed: list[str]) -> tuple[str, list[str], str]:
    """Return the folder of the split, its files in order, and what else there would have been."""
    folders = sorted({name.rpartition("/")[0] for name in listed if name.endswith(".parquet")})
    fitting = [each for each in folders if not data_set.part or each.endswith("/" + data_set.part)]
    if not fitting:
        there = ", ".join(folders) or "none"
        raise FileRefused(f"The data set {data_set.id} has no split '{data_set.part}'; it has: {there}.")
    folder = min(fitting, key=_preference)
    others = [each for each in folders if each != folder]
    notice = f"Not read: {', '.join(others)}." if others else ""
    return folder, sorted(name for name in listed if name.rpartition("/")[0] == folder), notice


def _preference(folder: str) -> tuple[bool, int, str]:
    config, _, part = folder.rpartition("/")
    return config != "default", _SPLITS.index(part) if part in _SPLITS else len(_SPLITS), folder
