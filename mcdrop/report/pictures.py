"""The small pictures of the first screen, and each figure in a sentence."""

from __future__ import annotations

from mcdrop.displays._curve import Curve
from mcdrop.report.values import Answer, Mark

__all__ = ["figure_sentence", "strip"]

# Units of the drawing; it scales with its tile. Without text, so that nothing gets too small.
_WIDTH, _HEIGHT, _EDGE = 300.0, 26.0, 8.0


def strip(answer: Answer, mark: Mark) -> str:
    """Return a number as a dot with its interval on a line, with the reference as a bar, in SVG."""
    low, high = answer.span
    middle = _HEIGHT / 2

    def at(value: float) -> float:
        share = min(1.0, max(0.0, (value - low) / (high - low)))
        return round(_EDGE + share * (_WIDTH - 2 * _EDGE), 1)

    parts = [f'<line class="axis" x1="{_EDGE}" x2="{_WIDTH - _EDGE}" y1="{middle}" y2="{middle}"/>']
    if answer.reference is not None:
        x = at(answer.reference)
        parts.append(f'<line class="reference" x1="{x}" x2="{x}" y1="2" y2="{_HEIGHT - 2}"/>')
    ends = f'x1="{at(mark.low)}" x2="{at(mark.high)}" y1="{middle}" y2="{middle}"'
    parts.append(f'<line class="interval" {ends}/>')
    parts.append(f'<circle class="value" cx="{at(mark.value)}" cy="{middle}" r="5.5"/>')
    return f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" aria-hidden="true">{"".join(parts)}</svg>'


def figure_sentence(name: str, curves: tuple[Curve, ...]) -> str:
    """Say what a figure shows of its first method, for readers who do not see it."""
    curve = curves[0]
    if name in ("reliability", "pit"):
        outside = sum(
            not low <= y <= high
            for low, y, high in zip(
                curve.calibrated_low, curve.y, curve.calibrated_high, strict=True
            )
        )
        what = "groups" if name == "reliability" else "bars"
        verb = "lies" if outside == 1 else "lie"
        said = (
            f"{outside or 'None'} of {len(curve.y)} {what} {verb} outside the range if calibrated"
        )
    elif name == "coverage":
        place = curve.x.index(0.9) if 0.9 in curve.x else -1
        stated, held = curve.x[place], curve.y[place]
        said = f"Intervals of {_percent(stated)} hold {_percent(held)} of the targets"
    elif name == "error_by_uncertainty":
        first, last = _number(curve, curve.y[0]), _number(curve, curve.y[-1])
        said = (
            f"All rows form one group, with {_error(curve)} {first}"
            if len(curve.y) == 1
            else f"The surest group of rows has {_error(curve)} {first}, the least sure {last}"
        )
    elif name == "referral":
        place = min(range(len(curve.x)), key=lambda i: abs(curve.x[i] - 0.1))
        first, left = _number(curve, curve.y[0]), _number(curve, curve.y[place])
        share = _percent(curve.x[place])
        what = "error rate" if curve.unit == "share" else "RMSE"
        said = f"The {what} is {first} on all rows and {left} when {share} are referred"
        if len(curve.x) == 1:
            said = f"The {what} is {first}, whichever rows are referred"
    else:
        first, last = f"{curve.y[0]:.3g}", f"{curve.y[-1]:.3g}"
        said = f"The score is {first} after {curve.x[0]:.0f} passes, {last} after {curve.x[-1]:.0f}"
    return f"{curve.method}: {said[0].lower()}{said[1:]}."


def _error(curve: Curve) -> str:
    return "an error rate of" if curve.unit == "share" else "an RMSE of"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _number(curve: Curve, value: float) -> str:
    return _percent(value) if curve.unit == "share" else f"{value:.3g}"
