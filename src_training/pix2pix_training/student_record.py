"""What the file of a model says that another model has taught (`compress`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from pix2pix_training.choices import TranslationPrecision
from pix2pix_training.validated import from_dict, validated


@validated
class StudentRecord:
    """How a student does beside its teacher on the images that were held out, in the values that are stored.

    Attributes
    ----------
    teacher, teacher_width : checksum and base width of the teacher.
    speed : times as fast as the teacher, on `device`, computing in `precision` where the teacher does in float32.
    to_teacher : scores of the student's results with the teacher's as targets.
    student_scores, teacher_scores : scores with the true targets; empty where there were none.

    The student's scores are those of its results in `precision`.
    """

    teacher: str
    teacher_width: int
    speed: Annotated[float, Field(gt=0)]
    device: str
    precision: TranslationPrecision = "fp32"
    to_teacher: dict[str, float | None]
    student_scores: dict[str, float | None] = Field(default_factory=dict)
    teacher_scores: dict[str, float | None] = Field(default_factory=dict)


def student_record_of(training: Mapping[str, Any]) -> StudentRecord | None:
    """From the `training` of a model; None for one that no other has taught.

    Raises
    ------
    SettingsError
        The entry is none of a `StudentRecord`.
    """
    return (
        None if "student" not in training else from_dict(StudentRecord, training["student"], where="training.student")
    )
