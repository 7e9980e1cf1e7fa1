from __future__ import annotations

import dataclasses

from edgevit.engines.model_info import describe_model_info
from edgevit.pixels.preprocess import Preprocess

PREPROCESS = Preprocess(
    224, 224, "shortest", 256, 256, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), fill=(7, 7, 7)
)


def test_normalisation_is_left_out_as_the_graph_does_it() -> None:
    info = describe_model_info(PREPROCESS, None)
    assert not {"mean_values", "scale_values"} & info.keys()
    assert info["model_type"] == "Classification"
    assert info["reverse_input_channels"] == "True"
    assert info["pad_value"] == "7"


def test_resize_has_model_apis_word() -> None:
    words = {"shortest": "crop", "squash": "standard", "longest": "fit_to_window_letterbox", "none": "crop"}
    for resize, word in words.items():
        changed = dataclasses.replace(PREPROCESS, resize=resize)  # type: ignore[arg-type]
        assert describe_model_info(changed, None)["resize_type"] == word


def test_labels_come_apart_again_at_blanks() -> None:
    labels = ["tench, Tinca tinca", "great  white\tshark", "", "chat noir"]
    written = describe_model_info(PREPROCESS, labels)["labels"]
    assert written.split() == ["tench,_Tinca_tinca", "great_white_shark", "class_2", "chat_noir"]


def test_every_value_is_a_text() -> None:
    assert all(isinstance(value, str) for value in describe_model_info(PREPROCESS, ["a"]).values())


def test_labels_by_themselves_are_said_to_be_so() -> None:
    assert describe_model_info(PREPROCESS, None)["multilabel"] == "False"
    assert describe_model_info(PREPROCESS, None, multilabel=True)["multilabel"] == "True"
