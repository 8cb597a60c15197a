"""The readme as PyPI and the napari hub show it: its links and pictures lead to the pages of the project; and its urls.

The environment says where these are: PROJECT_URL, such as https://github.com/OWNER/NAME, and PROJECT_REF, the tag.
Without PROJECT_URL the readme stays as it is, and there are no links to issues and source.
"""

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class PackageMetadata(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        project = os.environ.get("PROJECT_URL")
        metadata["urls"] = dict(self.config["urls"])
        if project:
            project = project.rstrip("/")
            metadata["urls"] |= {"Issues": f"{project}/issues", "Source": project}
            readme = _with_addresses(readme, project, os.environ["PROJECT_REF"])
        metadata["readme"] = {"content-type": "text/markdown", "text": readme}


def _with_addresses(readme: str, project: str, ref: str) -> str:
    """Paths of pages become project/blob/ref/PATH, those of pictures project/raw/ref/PATH."""
    path = r"\((?![a-z]+:|#)"
    pictures = re.sub(rf"(!\[[^\]]*\]){path}", rf"\1({project}/raw/{ref}/", readme)
    return re.sub(rf"(\]){path}", rf"\1({project}/blob/{ref}/", pictures)
