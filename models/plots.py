"""What a version is like, as pictures: how it learned, how it stands against its gates, how it did over the hold-out.

Each function gives a PNG. Figures are drawn by matplotlib's objects alone: ``pyplot`` would keep state for the process.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"pass": "#2e7d32", "fail": "#c62828", "undecided": "#ef8f00", "not_applicable": "#9e9e9e"}
LINES = {"challenger": "#1f5fbf", "champion": "#7b3fa0", "popularity": "#8a8a8a"}
DOTS_PER_INCH = 100
SHOWN = {"ndcg@10": "NDCG@10", "ndcg@10_positive": "NDCG@10, liked targets"}


def learning_curve(epochs: Sequence[Mapping[str, Any]]) -> bytes:
    """Quality on validation and training loss by epoch; the best epoch, which was kept, is marked."""
    figure = _figure(7.6, 5.2)
    quality, loss = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    steps = [int(row.get("epoch", place)) for place, row in enumerate(epochs)]
    for name, label in SHOWN.items():
        if any(row.get(name) is not None for row in epochs):
            quality.plot(steps, [row.get(name) for row in epochs], marker="o", ms=4, label=label)
    scored = [
        (row["objective"], -step) for row, step in zip(epochs, steps, strict=True) if row.get("objective") is not None
    ]
    if scored:
        best = -max(scored)[1]  # of equals the first, as in training
        quality.axvline(best, color=COLOURS["pass"], linestyle="--", linewidth=1, label=f"kept: epoch {best}")
    known = [(step, row["loss"]) for step, row in zip(steps, epochs, strict=True) if row.get("loss") is not None]
    loss.plot([step for step, _ in known], [value for _, value in known], marker="o", ms=4, color="#555555")
    quality.set(title="Learning: quality on validation", ylabel="NDCG@10")
    loss.set(xlabel="epoch (0: before learning)" if 0 in steps else "epoch", ylabel="training loss")
    loss.xaxis.get_major_locator().set_params(integer=True)
    if quality.lines:
        quality.legend(frameon=False)
    return _png(figure)


def gate_bars(gates: Sequence[Mapping[str, Any]], decision: str) -> bytes:
    """A row for each gate, on its own scale: measured (with its interval), the limit, the side that fails shaded."""
    figure = _figure(7.6, 0.9 + 0.62 * len(gates))
    rows = figure.subplots(len(gates), 1, squeeze=False)[:, 0]
    for axes, gate in zip(rows, gates, strict=True):
        _gate(axes, gate)
    figure.suptitle(f"Gates: {decision}. Dashed: the limit; shaded: the side that fails", fontsize=11)
    return _png(figure)


def rolling_hits(rolling: Mapping[str, Sequence[float]], window: int) -> bytes:
    """HR@10 in the order of time, each point the mean of ``window`` targets; see ``models.metrics.Rolling``."""
    figure = _figure(7.6, 4.0)
    axes = figure.subplots()
    for name, values in rolling.items():
        if name != "targets":
            axes.plot(rolling["targets"], values, label=name, color=LINES.get(name), linewidth=1.8)
    axes.set(title=f"HR@10 over the hold-out, mean of {window} deciding targets", xlabel="targets in the order of time")
    axes.set(ylabel="HR@10", ylim=(0.0, None))
    axes.ticklabel_format(axis="x", style="plain", useOffset=False)
    axes.legend(frameon=False)
    return _png(figure)


def reliability(calibration: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The share that came true beside the chance that was given, bin by bin, a line for each who gave chances.

    ``calibration`` is as ``evaluation.gates.calibration.curves`` gives it; on the diagonal chances are what they say.
    """
    figure = _figure(5.2, 5.0)
    axes = figure.subplots()
    for name, curve in calibration.items():
        points = [(row["chance"], row["share"]) for row in curve["reliability"]]
        label = f"{name}: error {curve['error_ten']:.3f}"
        axes.plot(*zip(*points, strict=True), marker="o", ms=4, label=label, color=LINES.get(name), linewidth=1.8)
    end = max(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.plot([0, end], [0, end], color="#bbbbbb", linestyle="--", linewidth=1)
    axes.set(title="Calibration of the ten best", xlabel="chance that the network gave", ylabel="share that came true")
    axes.set(xlim=(0, end), ylim=(0, end))
    axes.legend(frameon=False)
    return _png(figure)


def _gate(axes: "Axes", gate: Mapping[str, Any]) -> None:
    measured, limit = gate["measured"], gate["limit"]
    colour = COLOURS.get(gate["verdict"], COLOURS["not_applicable"])
    axes.set_yticks([0], [gate["name"].replace("_", " ")])
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.tick_params(axis="x", labelsize=7, length=2)
    axes.set_ylim(-0.5, 0.5)
    if measured is None or limit is None:
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        text = gate["verdict"].replace("_", " ")
    else:
        _bar(axes, gate, colour)
        text = f"{gate['verdict']}: {_number(measured)}\nlimit {'≤' if gate['at_most'] else '≥'} {_number(limit)}"
    axes.text(1.02, 0.5, text, transform=axes.transAxes, va="center", fontsize=8, color=colour, weight="bold")


def _bar(axes: "Axes", gate: Mapping[str, Any], colour: str) -> None:
    measured, limit = float(gate["measured"]), float(gate["limit"])
    ends = [float(gate[name]) for name in ("low", "high") if gate.get(name) is not None]
    axes.barh(0, measured, height=0.5, color=colour)
    if len(ends) == 2:
        axes.plot(ends, [0, 0], color="black", linewidth=1.2, marker="|", ms=8)
    points = [0.0, measured, limit, *ends]
    margin = 0.08 * (max(points) - min(points)) or 1.0
    left, right = min(points) - margin, max(points) + margin
    axes.axvspan(*((limit, right) if gate["at_most"] else (left, limit)), color="#fbe3e1", zorder=0)
    axes.axvline(limit, color="black", linestyle="--", linewidth=1)
    axes.axvline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
    axes.set_xlim(left, right)
    axes.ticklabel_format(axis="x", style="plain", useOffset=False)


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.3g}"


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")


def _png(figure: "Figure") -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    into = io.BytesIO()
    FigureCanvasAgg(figure).print_png(into)
    return into.getvalue()
