"""Build hook: the README as a package index shows it, and the project's links.

On an index a relative link leads nowhere. `repository`, `[tool.hatch.metadata.hooks.custom]` in
pyproject.toml, is the one place that says where the project is; README links and pictures are made
absolute with it, and the project's links of it. As long as it is empty, an index is given the text
of the links, and pictures are left out.
"""

from __future__ import annotations

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)\s]+)\)")


def absolute(readme: str, repository: str) -> str:
    """The README with each relative link and picture made absolute, or without a place: as text."""

    def link(found: re.Match[str]) -> str:
        picture, text, path = found.groups()
        if not repository:
            return "" if picture else text
        return f"{picture}[{text}]({repository}/{'raw' if picture else 'blob'}/HEAD/{path})"

    return re.sub(r"\n{3,}", "\n\n", _LINK.sub(link, readme))


def urls(repository: str) -> dict[str, str]:
    """The project's links."""
    if not repository:
        return {}
    return {
        "Repository": repository,
        "Documentation": f"{repository}/blob/HEAD/docs/index.md",
        "Changelog": f"{repository}/blob/HEAD/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }


class Metadata(MetadataHookInterface):
    """Fills in ``readme`` and ``urls``."""

    def update(self, metadata: dict) -> None:
        """Add them to the metadata of ``[project]``."""
        repository = self.config.get("repository", "").rstrip("/")
        readme = (Path(self.root) / "README.md").read_text("utf-8")
        text = absolute(readme, repository)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = urls(repository)
