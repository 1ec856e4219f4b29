"""Files in the published form, made as the published system makes them, its EasyDict included."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


def write(path: Path, model: dict[str, Tensor], config: dict[str, Any] | None = None, **more: Any) -> Path:
    """Saves {'model', 'config', 'epoch'} with the config as a pickled `easydict.EasyDict`.

    The module is there only while the file is written: a reader can not import it.
    """
    assert "easydict" not in sys.modules
    zipped = more.pop("zipped", True)
    module = ModuleType("easydict")
    module.EasyDict = type("EasyDict", (_Attributes,), {"__module__": "easydict"})
    sys.modules["easydict"] = module
    try:
        easy = module.EasyDict({} if config is None else config)
        content = {"model": model, "config": easy, "epoch": 10, **more}
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    finally:
        del sys.modules["easydict"]
    return path


class _Attributes(dict):
    """A dict whose items are attributes too, so that its pickle holds them twice, in items and in state."""

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__()
        for key, value in content.items():
            inner = type(self)(value) if isinstance(value, dict) else value
            self[key] = inner
            self.__dict__[key] = inner
