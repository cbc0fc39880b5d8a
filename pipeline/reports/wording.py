# SPDX-License-Identifier: Apache-2.0
"""The sentences that stand for the enumerated codes.

A code without a sentence is shown as it is; a test keeps the tables complete.
"""

from explain.metrics.absence import AbsenceReason
from explain.metrics.card import KEPT_PERCENTAGES
from pipeline.errors import Reason

REASONS: dict[str, str] = {
    Reason.FILE_MISSING: "The file was not there.",
    Reason.FILE_EMPTY: "The file has no bytes.",
    Reason.FILE_TOO_LARGE: "The file is larger than the limit.",
    Reason.FILE_UNREADABLE: "The file could not be read.",
    Reason.FILE_CHANGED: "The file changed after the manifest was fixed.",
    Reason.ROW_UNREADABLE: "The row is damaged, or is not what was asked for.",
    Reason.NOT_AN_IMAGE: "The file is not a picture of a known format.",
    Reason.IMAGE_TRUNCATED: "The picture ends before its last row.",
    Reason.IMAGE_TOO_LARGE: "The picture has more pixels than the limit.",
    Reason.UNSUPPORTED_CHANNELS: "The picture's channels do not fit the model.",
    Reason.NOT_A_TEXT: "The item is not text in UTF-8.",
    Reason.TEXT_EMPTY: "The text has no words.",
    Reason.TEXT_TOO_LONG: "The text has more tokens than the limit.",
    Reason.TEXT_UNKNOWN: "The network's tokenizer knows no part of the text.",
    Reason.OUTSIDE_ALLOWED_ROOTS: "The file lies outside the allowed folders.",
    Reason.SUBJECT_ERASED: "The person whom it is about was erased on request.",
    Reason.DUPLICATE_ITEM: "The same file is already an earlier item.",
    Reason.LABEL_MISSING: "The audit explains the label, and the item has none.",
    Reason.LABEL_UNKNOWN: "The label is not one of the model's classes.",
    Reason.LABEL_AMBIGUOUS: "The label names more than one of the model's classes.",
    Reason.MASK_MISSING: "The ground truth mask was not there.",
    Reason.MASK_UNREADABLE: "The ground truth mask could not be read.",
    Reason.MASK_SIZE_MISMATCH: "The mask has another size than its picture.",
    Reason.KILLED_WORKER: "Twice the worker died or hung with this item in work.",
    Reason.BROKE_COMPUTATION: "Twice the computation failed with this item alone.",
    Reason.NOT_A_SEQUENCE: "The file is no array of numbers, steps by features.",
    Reason.SEQUENCE_EMPTY: "The sequence has no step.",
    Reason.SEQUENCE_TOO_LONG: "The sequence has more steps than the limit.",
    Reason.SEQUENCE_RAGGED: "The sequence has a gap, or other features than expected.",
    Reason.STEPS_UNSORTED: "The times of the steps do not rise.",
    Reason.COLUMN_MISSING: "The row lacks a column that the encoding needs.",
    Reason.CELL_EMPTY: "A cell that must not be empty is.",
    Reason.CELL_NOT_A_NUMBER: "A cell of a column of numbers holds no number.",
    Reason.CELL_NOT_FINITE: "A cell holds NaN, infinity or too large a number.",
    Reason.CATEGORY_UNKNOWN: "A cell holds a category that the encoding lacks.",
    Reason.GRAPH_UNREADABLE: "The graph is no JSON object with x and edge_index.",
    Reason.GRAPH_EMPTY: "The graph has no node.",
    Reason.GRAPH_WITHOUT_EDGES: "Edges are ranked, and the graph has none.",
    Reason.GRAPH_TOO_LARGE: "The graph has more nodes or edges than the limit.",
    Reason.GRAPH_FEATURES_MISMATCH: "Nodes have more or fewer numbers than expected.",
    Reason.NON_FINITE_OUTPUT: "The model's output holds NaN or infinity.",
    Reason.NON_FINITE_MAP: "The attribution holds NaN or infinity.",
    Reason.ZERO_GRADIENT: "Nothing that the method looks at moves the target's score.",
    Reason.CONSTANT_MAP: "The attribution is the same everywhere, so it shows nothing.",
    Reason.INSUFFICIENT_SUPPORT: (
        "Fewer positions are positive than were to be kept; the mask is smaller."
    ),
    Reason.Q_NOT_REACHED: (
        "No mask keeps the asked share of the confidence; the best one is kept."
    ),
}

ABSENCES: dict[str, str] = {
    AbsenceReason.INVALID_ITEM: "The item failed before it could be measured.",
    AbsenceReason.NON_FINITE: "A value that it needs is NaN or infinite.",
    AbsenceReason.CONSTANT_MAP: "The map is the same everywhere.",
    AbsenceReason.NO_GROUND_TRUTH: "The item came without a ground truth mask.",
    AbsenceReason.EMPTY_GROUND_TRUTH: "The mask marks nothing within the crop.",
    AbsenceReason.EMPTY_MASK: "The explanation's mask keeps nothing.",
    AbsenceReason.ZERO_NORM: "The map's norm is zero.",
    AbsenceReason.ZERO_ENERGY: "The map has no positive part.",
    AbsenceReason.ZERO_PROBABILITY: "The target's probability is zero.",
    AbsenceReason.ZERO_CHANGE: "The output is the same as on the baseline.",
    AbsenceReason.NO_VARIATION: "What would be compared is the same in every sample.",
    AbsenceReason.CLASS_CHANGED: "No changed input kept the predicted class.",
    AbsenceReason.NO_REPRESENTATION: "The network has no linear layer to listen to.",
    AbsenceReason.BLANK_RANDOMISED: "The map of the random network shows nothing.",
    AbsenceReason.NO_OTHER_CLASS: "The network has one class only.",
}


def reason_sentence(code: str) -> str:
    """Return why an item failed or is weaker than asked for."""
    return REASONS.get(code, code)


def absence_sentence(code: str) -> str:
    """Return why a metric has no value."""
    return ABSENCES.get(code) or REASONS.get(code, code)


#: What a column of numbers is called in headings.
TITLES: dict[str, str] = {
    "deletion_auc": "Deletion AUC",
    "insertion_auc": "Insertion AUC",
    "confidence_retained": "Confidence retained",
    "completeness_energy": "Completeness (energy kept)",
    "completeness_residual": "Completeness residual",
    "completeness_residual_relative": "Completeness residual, relative",
    "pixel_flipping_aopc": "Pixel flipping (AOPC)",
    "faithfulness_correlation": "Faithfulness correlation",
    "faithfulness_estimate": "Faithfulness estimate",
    "infidelity": "Infidelity",
    "road_morf": "ROAD, most relevant first",
    "road_lerf": "ROAD, least relevant first",
    "road_gap": "ROAD, least less most",
    "sufficiency": "Sufficiency",
    "comprehensiveness": "Comprehensiveness",
    "fidelity_plus": "Fidelity+ (the class changes without the kept part)",
    "fidelity_minus": "Fidelity- (the class changes with the kept part alone)",
    "retention_auc": "Energy retention AUC",
    "retention_1": "Energy in the top 1 %",
    "retention_5": "Energy in the top 5 %",
    "retention_10": "Energy in the top 10 %",
    "retention_20": "Energy in the top 20 %",
    "retention_50": "Energy in the top 50 %",
    "max_sensitivity": "Max-sensitivity",
    "avg_sensitivity": "Average sensitivity",
    "relative_stability_input": "Relative stability: input",
    "relative_stability_output": "Relative stability: output",
    "relative_stability_representation": "Relative stability: representation",
    "mask_stability_iou": "Mask stability: IoU",
    "mask_stability_precision": "Mask stability: average precision",
    "mask_stability_correlation": "Mask stability: correlation",
    "threshold_stability": "Threshold stability",
    "boundary_f1": "Boundary F1",
    "pointing_game": "Pointing game",
    "relevance_mass": "Relevance mass accuracy",
    "relevance_rank": "Relevance rank accuracy",
    "top_k_intersection": "Top-k intersection",
    **{
        f"threshold_{what.lower()}_{percent}": f"{what} at {percent} %"
        for what in ("Precision", "Recall", "IoU")
        for percent in KEPT_PERCENTAGES
    },
    "average_precision": "Average precision",
    "pxap": "PxAP",
    "max_box_acc": "MaxBoxAcc",
    "max_box_iou": "Best IoU of boxes",
    "sparseness": "Sparseness (Gini)",
    "entropy": "Entropy",
    "effective_complexity": "Effective complexity",
    "mprt": "Parameter randomisation (MPRT)",
    "mprt_full": "MPRT, all layers",
    "smprt": "Smooth MPRT",
    "emprt": "Efficient MPRT",
    "random_logit": "Random logit",
    "case_texture": "Texture",
    "case_texture_flag": "Complex texture",
    "case_contrast": "Contrast",
    "case_contrast_flag": "Low contrast",
    "case_peaks": "Peaks of the map",
    "case_peaks_flag": "Several objects",
    "case_margin": "Margin of the class",
    "case_margin_flag": "Fine-grained classes",
    "localisation_iou": "Localisation: IoU",
    "localisation_dice": "Localisation: Dice",
    "localisation_precision": "Localisation: precision",
    "localisation_recall": "Localisation: recall",
    "score": "Score of the target",
    "keep_achieved": "Fraction kept",
}


def title_of(name: str) -> str:
    """Return what a value is called in headings."""
    return TITLES.get(name) or name.replace("_", " ").capitalize()
