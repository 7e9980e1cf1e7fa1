"""Every family and publisher that edgevit reads: what the parity tests run, and the rows of ``docs/models.md``."""

from __future__ import annotations

from tests.parity import publishers, swin, timm_vit, transformers_vit
from tests.parity.case import Case

CASES: tuple[Case, ...] = (*timm_vit.CASES, *transformers_vit.CASES, *swin.CASES, *publishers.CASES)
