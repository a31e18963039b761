"""The files as JupyterLab gets them from ``mixer lab``."""

import platform
from typing import Any

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager


class Contents(AsyncLargeFileManager):
    """Notebooks that are not marked as changed as soon as they are opened.

    JupyterLab writes the kernel's version of Python into a notebook that was stored by another
    one, which counts as a change. Here it is handed out with the version of this Python; the
    file stays as it is until somebody saves it.
    """

    async def get(self, path: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        """What is at ``path``, as the base class gives it."""
        model = await super().get(path, *arguments, **options)
        if model["type"] == "notebook" and model["content"]:
            language = model["content"]["metadata"].get("language_info", {})
            if language.get("name") == "python" and "version" in language:
                language["version"] = platform.python_version()
        return model
