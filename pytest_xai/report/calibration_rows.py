"""What a run reports of a calibration, in builtin types only; see `pytest_xai.report.rows`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_xai.report.rows import GateKey

if TYPE_CHECKING:
    from pytest_xai.report.rows import GateRow
    from xai_core.calibration import Calibration


class CalibrationRow(GateKey):
    """One condition of a gate, measured with several seeds; see `xai_core.calibration`.

    ``of`` says what was compared where it is not the mean, ``proposed`` is None where the file has
    no number for it, ``rate`` is what it is proposed for.
    """

    of: str
    threshold: float
    above: bool
    images: int
    seeds: int
    deterministic: bool
    mean: float
    seed_deviation: float | None
    lowest: float
    highest: float
    image_deviation: float | None
    stopped: float
    false_alarm_rate: float | None
    rate: float
    proposed: float | None


def calibration_rows(
    row: GateRow, found: tuple[Calibration, ...], *, rate: float
) -> list[CalibrationRow]:
    """Return what was found of each demand of a gate."""
    return [
        CalibrationRow(
            model=row["model"],
            data=row["data"],
            file=row["file"],
            line=row["line"],
            method=row["method"],
            explainer=row["explainer"],
            gate=row["gate"],
            metric=row["metric"],
            protocol=row["protocol"],
            level=row["level"],
            of=demand["of"],
            threshold=one.threshold,
            above=one.above,
            images=one.images,
            seeds=one.seeds,
            deterministic=one.seed_deviation is None,
            mean=one.mean,
            seed_deviation=one.seed_deviation,
            lowest=one.lowest,
            highest=one.highest,
            image_deviation=one.image_deviation,
            stopped=one.stopped,
            false_alarm_rate=one.false_alarm_rate,
            rate=rate,
            proposed=None if demand["of"].startswith("over ") else one.proposed,
        )
        for demand, one in zip(row["demands"], found, strict=True)
    ]
