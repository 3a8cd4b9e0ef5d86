"""Where a notebook of the book can be opened, from one setting: the repository's address.

``repository.url`` in ``_config.yml`` is all that there is to set. Without it a page offers what
needs no address: the file itself, and the command that opens it in Jupyter.
"""

from dataclasses import dataclass
from urllib.parse import quote, urlsplit

COLAB = "https://colab.research.google.com"
BINDER = "https://mybinder.org"
FOLDER = "notebooks"  # of the plain notebooks, below the built pages


@dataclass(frozen=True)
class Address:
    """The repository, and the site that is built from it.

    Args:
        repository: its address, ``https://github.com/owner/name``, or an empty text.
        branch: the branch that holds the course.
        pages: the branch that holds the built pages, and the plain notebooks with them.
        site: where the built pages are read; by default GitHub's own place for ``pages``.

    Raises:
        ValueError: ``repository`` is not the address of a repository.
    """

    repository: str = ""
    branch: str = "main"
    pages: str = "gh-pages"
    site: str = ""

    def __post_init__(self) -> None:
        if self.repository and len(self._parts) < 2:
            raise ValueError(
                f"repository={self.repository!r} is not allowed: "
                "it must look like 'https://github.com/owner/name', or be empty."
            )

    @property
    def _url(self) -> str:
        return self.repository.strip().rstrip("/").removesuffix(".git")

    @property
    def _host(self) -> str:
        return urlsplit(self._url).netloc

    @property
    def _parts(self) -> list[str]:
        parts = urlsplit(self._url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            return []
        return [part for part in parts.path.split("/") if part]

    @property
    def home(self) -> str:
        """The address of the built pages, without a slash at its end; empty if none is known."""
        if self.site:
            return self.site.rstrip("/")
        if self._host == "github.com":
            owner, name = self._parts[:2]
            place = f"https://{owner.lower()}.github.io"
            return place if name.lower() == f"{owner.lower()}.github.io" else f"{place}/{name}"
        return ""

    @property
    def requirement(self) -> str:
        """What pip installs the package from; empty without a repository."""
        return f"git+{self._url}@{self.branch}" if self.repository else ""

    def colab(self, notebook: str) -> str:
        """Colab's address for a plain notebook; empty where Colab cannot read the repository."""
        if self._host != "github.com":
            return ""
        owner, name = self._parts[:2]
        branch = quote(self.pages)
        return f"{COLAB}/github/{owner}/{name}/blob/{branch}/{FOLDER}/{quote(notebook)}"

    def binder(self, notebook: str) -> str:
        """Binder's address for a plain notebook; empty without a repository."""
        if not self.repository:
            return ""
        branch = quote(self.pages, safe="")
        if self._host == "github.com":
            place = "gh/" + "/".join(self._parts[:2])
        elif self._host == "gitlab.com":
            place = "gl/" + quote("/".join(self._parts), safe="")
        else:
            place = "git/" + quote(self._url, safe="")
        path = quote(f"lab/tree/{FOLDER}/{notebook}", safe="")
        return f"{BINDER}/v2/{place}/{branch}?urlpath={path}"
