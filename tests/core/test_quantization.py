"""The nouns of a recipe's quantisation and of its record."""

from __future__ import annotations

import pytest

from edgevit.core.quantization import Quantization, QuantizationRecord, SiteRecord


def test_quantization_with_bad_values_lists_them_all() -> None:
    with pytest.raises(ValueError) as caught:
        Quantization(images=0, percentile=101.0, sqnr_db=101.0, float_share=-0.1)
    for text in ("images = 0", "percentile = 101.0", "sqnr_db = 101.0", "float_share = -0.1"):
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("images", -5),
        ("percentile", 50.0),
        ("percentile", float("nan")),
        ("float_share", 1.1),
        ("float_share", float("nan")),
        ("sqnr_db", float("nan")),
        ("weight_bits", 4),  # with INT8 activations
        ("weight_group", 8),
    ],
)
def test_quantization_with_one_bad_value_names_it_alone(key: str, value: float) -> None:
    with pytest.raises(ValueError) as caught:
        Quantization(**{key: value})  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{key} = ")
    assert ";" not in str(caught.value)


def test_quantization_at_the_limits_is_accepted() -> None:
    assert Quantization(images=1, percentile=100, float_share=0, sqnr_db=100).percentile == 100


def test_record_worst_begins_with_the_lowest_ratio_and_leaves_out_what_was_not_measured() -> None:
    sites = tuple(SiteRecord(name, "int8", "", db) for name, db in (("a", 40.0), ("b", None), ("c", 12.5), ("d", 30.0)))
    assert [site.name for site in QuantizationRecord(images=1, sites=sites).worst] == ["c", "d", "a"]
