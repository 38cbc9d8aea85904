"""Without its framework, an integration names the extra that brings it."""

from __future__ import annotations

import importlib
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [("transformers", "transformers", "hf"), ("lightning", "lightning.pytorch", "lightning")],
)
def test_the_extra_is_named(
    module: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # importing it now raises
    monkeypatch.delitem(sys.modules, f"halflife.integrations.{module}", raising=False)
    with pytest.raises(ImportError, match=rf"extra '{extra}'.*pip install torch-halflife\[{extra}"):
        importlib.import_module(f"halflife.integrations.{module}")
