"""A model from a hub that speaks the Hugging Face API: one commit, only the files that are wanted.

Knows nothing of repositories or formats. The hub's own client does the talking: HF_ENDPOINT says where it is, HF_TOKEN
who asks. A branch or tag is resolved to its commit once, and that commit is fetched. Raises NotFound, Unavailable.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from app.errors import BooksDamaged, InvalidInput, NotFound, Unavailable
from app.models.formats import sha256

SCHEME = "hf:"


def download(reference: str, target: Path, wanted: Callable[[list[str]], list[str]]) -> str:
    """Fetch `org/name@revision` into `target`; `wanted` chooses among its files. Returns `org/name@<commit>`."""
    # Imported here: the client reads its variables when it is imported.
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    name, _, revision = reference.partition("@")
    if not revision:
        raise InvalidInput(f"hf:{reference} names no revision; write hf:{name}@main, or better a commit")
    try:
        api = HfApi(library_name="joulekeeper")
        info = api.model_info(name, revision=revision, files_metadata=True)
        siblings = {each.rfilename: each for each in info.siblings or ()}
        for path in wanted(sorted(siblings)):
            api.hf_hub_download(name, path, revision=info.sha, local_dir=target)
            lfs = siblings[path].lfs
            if lfs is not None and sha256(target / path) != lfs.sha256:
                raise BooksDamaged(f"{path} of hf:{reference} is not the file that the hub lists; fetch it again")
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise NotFound(f"hf:{reference} is not on the hub, or not for this HF_TOKEN: {_first_line(error)}") from error
    except HFValidationError as error:
        raise InvalidInput(f"hf:{reference} is no hub id: {_first_line(error)}; write hf:ORG/NAME@REVISION") from error
    except (HfHubHTTPError, OSError) as error:
        raise Unavailable(f"the hub did not give hf:{reference}: {_first_line(error)}; see HF_ENDPOINT") from error
    shutil.rmtree(target / ".cache", ignore_errors=True)
    return f"{name}@{info.sha}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
