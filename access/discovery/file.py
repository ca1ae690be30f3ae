"""Endpoints in YAML or JSON files, ours or Prometheus's: which files, and what of them stands when one is broken.

A file that cannot be read at all keeps its last good state; what a file says is `file_content`'s to know.
"""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import Field

from access.discovery.base import Entry, Resolver, Snapshot, SourceConfig
from access.discovery.file_content import Model, Models, read_file
from access.errors import DiscoveryError
from access.files import FileError
from dl_inference.problem import Problem


class FileConfig(SourceConfig):
    """Endpoints in a YAML or JSON file (`.json`), which is followed; in one of two forms.

    Ours maps route keys to `{endpoints, timeout_ms, protocol, release}`: only `endpoints` must be there, a list of
    addresses or of `{address, weight, version, versions, labels}`; `release` says which version gets which share, as in
    the registry: `{releases: {"3": {phase: production, weight: 95}, "4": {phase: canary, weight: 5}}, labels: {stable:
    "3"}}`. The other form is Prometheus's `file_sd`: a list of `{targets: [host:port, ...], labels: {model: digits}}`.
    Of its labels `model`, `version`, `weight`, `protocol` and `timeout_ms` count, with or without `__meta_` before
    them. What several groups or files say about one model is put together; where they contradict, the first counts.

    What cannot be used is skipped and named in the log and in `dl-inference status`. A model whose release, or whose
    every endpoint, cannot be used keeps its last good state, and so does a file that is missing, broken or empty.
    """

    path: str = Field(
        min_length=1,
        description="the file; a relative path starts at the configuration's folder. Its last part may be a pattern "
        "such as `*.yaml`. Changes are followed, those of a ConfigMap's symbolic links, too",
    )


class FileResolver(Resolver):
    """Reads one file, or those that match a pattern."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: dict[Path, Models] = {}
        self.name = f"file:{path}"

    @classmethod
    def create(cls, config: SourceConfig, folder: Path) -> Self:
        """Make the resolver of ``config.path``."""
        return cls(folder / FileConfig.model_validate(config).path)

    def read(self) -> Snapshot:
        """Return the entries of every file.

        Raises:
            DiscoveryError: there is no file, or none that can be used.
        """
        paths = self._files() or [self._path]
        models: Models = {}
        warnings: list[Problem] = []
        errors: list[str] = []
        last, self._last = self._last, {}
        for path in paths:
            try:
                self._last[path], found = read_file(path, last.get(path, {}))
                warnings += found
            except (FileError, DiscoveryError) as error:
                self._last[path] = last.get(path, {})
                errors.append(str(error))
                warnings.append(Problem(path.name, str(error), "its last good state stays"))
            for key, model in self._last[path].items():
                contradictions = models.setdefault(key, Model()).add(model)
                warnings += [Problem(path.name, f"{key}: {each}", "the first counts") for each in contradictions]
        if len(errors) == len(paths):
            raise DiscoveryError("; ".join(errors[:3]))
        entries = {
            key: Entry(tuple(model.endpoints.values()), model.timeout_ms, model.protocol, model.release)
            for key, model in models.items()
        }
        return Snapshot(entries, tuple(warnings))

    def watch_paths(self) -> Sequence[Path]:
        """Return the files and the pattern itself, whose folder is watched for new ones."""
        return tuple(dict.fromkeys([self._path, *self._files()]))

    def _files(self) -> list[Path]:
        if not glob.has_magic(self._path.name) or self._path.exists():
            return [self._path]
        folder = self._path.parent
        # Hidden files, as editors and ConfigMaps have them, match only a pattern that begins with a dot.
        return [folder / name for name in sorted(glob.glob(self._path.name, root_dir=folder))]
