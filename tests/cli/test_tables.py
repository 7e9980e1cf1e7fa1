from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.cli.output import Output
from edgevit.cli.tables import (
    MISSING,
    format_bytes,
    format_count,
    format_megabytes,
    format_ms,
    format_percent,
    make_end_to_end_table,
    make_sites_table,
    make_table,
    make_verdict_table,
)
from edgevit.cli.terminal import open_console
from edgevit.core.quantization import QuantizationRecord, SiteRecord
from edgevit.core.report.report import Accuracy, EndToEnd, Latency, Machine, Ratio, Report, Variant, Verdict
from edgevit.core.report.timings import Spread
from edgevit.core.target import Budget

MACHINE = Machine("cpu", ("avx2",), 2, 2, 2, "Linux", "6", "3.11", "x86_64", {})


def make_latency(ms):
    return Latency(1, 100, 10, 5.0, ms, ms * 1.3, ms * 2, ms, ms / 10, ms, "method")


def make_accuracy(images, wrong, agreement, sqnr):
    top1 = images - wrong
    return Accuracy(
        images, True, agreement, 0.9, 1.0, top1, images, images, images, 0, wrong, 100 * wrong / images, 0.0, 1.0, sqnr
    )


def make_report(*variants):
    return Report({}, "cpu", Budget(), MACHINE, variants, Verdict("fp32", True, "sentence"), "resize")


def draw(part, monkeypatch, columns=80):
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = io.StringIO()
    Output(_stream=stream).show(part)
    return stream.getvalue().splitlines()


WIDE = (
    Variant("fp32", "fp32", 22_900_000, make_latency(136.4), Ratio(1, 1, 1, 20), None, None,
            make_accuracy(600, 0, 600, 131.4), status="WITHIN BUDGET"),
    Variant("fp16", "fp16", 11_500_000, make_latency(27.31), Ratio(0.86, 0.84, 1.12, 20), None, None,
            make_accuracy(600, 67, 533, 18.2), status="ACCURACY DROP"),
    Variant("int8", "int8", 5_900_000, make_latency(0.1234), Ratio(0.5, 0.49, 0.51, 20), None, None,
            make_accuracy(600, 1, 599, None), status="CHOSEN"),
)  # fmt: skip


def test_verdict_table_with_every_figure_lines_up_within_80_columns(monkeypatch):
    lines = draw(make_verdict_table(make_report(*WIDE)), monkeypatch)
    assert len(lines) == 5, "no row is wrapped"
    assert max(map(len, lines)) <= 80
    end = lines[0].index("p50") + len("p50")
    assert [line[:end].split()[-1] for line in lines[2:]] == ["136", "27.3", "0.123"]
    assert "WITHIN BUDGET" in lines[2]
    assert "0.84–1.12" in lines[3]
    assert "ACCURACY DROP" in lines[3]
    assert " ".join(lines[4].split()) == "int8 0.123 0.160 0.50 0.49–0.51 99.83 +0.17 99.83 – 5.9 CHOSEN"


def test_verdict_table_of_a_large_model_that_lost_much_lines_up_within_80_columns(monkeypatch):
    large = [replace(v, size_bytes=53 * v.size_bytes, latency=make_latency(1364.0)) for v in WIDE]
    lines = draw(make_verdict_table(make_report(*large)), monkeypatch)
    assert len(lines) == 5, "no row is wrapped"
    assert max(map(len, lines)) <= 80
    assert "1214" in lines[2]


def test_end_to_end_table_of_slow_parts_lines_up_within_80_columns(monkeypatch):
    def make(*parts):
        decode, resize, engine, answer, whole = (Spread(ms, ms, ms) for ms in (*parts, sum(parts)))
        return EndToEnd("a.jpg", "JPEG", 500, 375, 50, decode, resize, engine, answer, whole)

    found = {"fp32-onnxruntime": make(143.0, 126.4, 1364.0, 12.5), "int8": make(1.125, 1.5, 5.875, 0.125)}
    lines = draw(make_end_to_end_table(found), monkeypatch)
    assert len(lines) == 4, "no row is wrapped"
    assert max(map(len, lines)) <= 80
    assert " ".join(lines[0].split()) == "end to end ms decode resize engine answer"
    assert " ".join(lines[2].split()) == "fp32-onnxruntime 1646 143 9 % 126 8 % 1364 83 % 12.5 1 %"
    assert " ".join(lines[3].split()) == "int8 8.62 1.12 13 % 1.50 17 % 5.88 68 % 0.125 1 %"


def test_sites_table_shows_the_five_worst_that_were_measured_the_worst_first(monkeypatch):
    sites = tuple(SiteRecord(f"blocks.{i}.mlp.fc2", "int8", sqnr_db=40.0 + (i * 7) % 10) for i in range(10))
    record = QuantizationRecord(100, sites=(SiteRecord("head", "float", "small"), *sites))
    lines = draw(make_sites_table(record), monkeypatch)
    assert " ".join(lines[0].split()) == "site SQNR alone precision"
    expected = [f"blocks.{i}.mlp.fc2 {db}.0 dB int8" for i, db in ((0, 40), (3, 41), (6, 42), (9, 43), (2, 44))]
    assert [" ".join(line.split()) for line in lines[2:]] == expected


def test_sites_table_is_absent_where_no_site_was_measured():
    assert make_sites_table(QuantizationRecord(100, sites=(SiteRecord("head", "int8"),))) is None


def test_verdict_table_leaves_out_columns_without_figures(monkeypatch):
    bare = Variant("fp32", "fp32", 1_000_000, status="NOT MEASURED")
    header = draw(make_verdict_table(make_report(bare)), monkeypatch)[0]
    assert header.split() == ["variant", "MB", "status"]


def test_verdict_table_of_one_variant_shows_no_ratio(monkeypatch):
    header = draw(make_verdict_table(make_report(WIDE[0])), monkeypatch)[0]
    assert "ratio" not in header
    assert "p50" in header


def test_refused_variant_has_dashes_not_zeros(monkeypatch):
    refused = Variant("fp16", "fp16", 0, status="NOT SUPPORTED", reason="no")
    row = draw(make_verdict_table(make_report(WIDE[0], refused)), monkeypatch)[3]
    assert row.split()[1:3] == [MISSING, MISSING]


@pytest.mark.parametrize("columns", [80, 60])
def test_narrow_terminals_wrap_words_and_keep_numbers_whole(monkeypatch, columns):
    table = make_table(["name", "count"], right={"count"})
    table.add_row("word " * 30, "1234567890")
    lines = draw(table, monkeypatch, columns)
    assert max(map(len, lines)) <= columns
    assert any(line.endswith(" 1234567890") for line in lines)


def test_console_prints_text_as_it_is():
    stream = io.StringIO()
    open_console(stream).print("[bold]x[/bold] :smile: 127.0.0.1")
    assert stream.getvalue() == "[bold]x[/bold] :smile: 127.0.0.1\n"


@given(st.floats(1e-3, 9999))
def test_format_ms_keeps_three_figures_in_five_characters(value):
    text = format_ms(value)
    assert len(text) <= 5
    assert math.isclose(float(text), value, rel_tol=0.0051, abs_tol=0.0006)


@given(st.integers(0, 10_000), st.integers(1, 10_000))
def test_format_percent_says_100_only_where_it_is_all(count, images):
    value = 100 * min(count, images) / images
    assert (format_percent(value) == "100") == (count >= images)


def test_large_numbers_have_units():
    assert [format_count(v) for v in (812, 5_717_416, 1.25e9)] == ["812", "5.72 M", "1.25 G"]
    assert [format_bytes(v) for v in (469, 22.9e6, 8.59e9)] == ["469 B", "22.9 MB", "8.59 GB"]
    assert [format_megabytes(v) for v in (5.9e6, 999.94e6, 999.95e6, 1217.2e6)] == ["5.9", "999.9", "1000", "1217"]


def test_sites_table_ends_with_the_worst_groups_by_the_pattern_that_pins_them(monkeypatch):
    sites = [SiteRecord(f"blocks.{i}.mlp.fc2", "int8" if i else "float", sqnr_db=30.0 + i) for i in range(3)]
    groups = {f"blocks.*.{name}": 20.0 + i for i, name in enumerate(("attn.q", "mlp.fc2", "attn.k", "attn.v"))}
    lines = draw(make_sites_table(QuantizationRecord(100, sites=tuple(sites), groups=groups)), monkeypatch)
    rows = [" ".join(line.split()) for line in lines if "blocks.*" in line]
    assert [row.split()[0] for row in rows] == ["blocks.*.attn.q", "blocks.*.mlp.fc2", "blocks.*.attn.k"]
    assert rows[1] == "blocks.*.mlp.fc2 21.0 dB int8: 2 of 3"
    assert all(len(line) <= 80 for line in lines)


def test_verdict_table_of_a_whole_model_has_its_tasks_figures(monkeypatch):
    def judge(kept, miou=None):
        figures = {"kept_pixels_percent": kept, "kept_miou_percent": 90.0}
        figures |= {} if miou is None else {"miou_percent": miou, "reference_miou_percent": 42.0}
        levels = {"maps": 31.23, "aux": 40.0}
        return Accuracy(
            20, miou is not None, None, None, None, task="segment", level_sqnr_db=levels, task_figures=figures
        )

    variants = [replace(WIDE[0], accuracy=judge(100, 42.0)), replace(WIDE[2], accuracy=judge(99.999, 41.5))]
    lines = draw(make_verdict_table(make_report(*variants)), monkeypatch)
    assert lines[0].split() == ["variant", "p50", "p90", "ratio", "95", "%", "mIoU", "kept", "dB", "MB", "status"]
    assert " 42.00 100 31.2 22.9 " in " ".join(lines[2].split())
    assert " 41.50 99.99 31.2 5.9 CHOSEN" in " ".join(lines[3].split())
    assert max(map(len, lines)) <= 80
    plain = draw(make_verdict_table(make_report(replace(WIDE[0], accuracy=judge(97.5)))), monkeypatch)
    assert "mIoU" not in plain[0]
    assert " 97.50 31.2 22.9 " in " ".join(plain[2].split())
