"""docs/measured.md out of benchmarks/results: figures are quoted by generation, never by hand.

    python benchmarks/measured.py           writes the page
    python benchmarks/measured.py --check   leaves with 1 if it is not what the results give

Of results that are not there nothing is said.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable
from pathlib import Path

from measured_parts import RESULTS, bench, evidence, percent, read, speed, suites, table

PAGE = Path(__file__).resolve().parents[1] / "docs" / "measured.md"
BEDS = {
    "mnist": "MNIST, 10,000 images, convnet",
    "cifar10": "CIFAR-10 subset, convnet",
    "cifar10-resnet20": "CIFAR-10 subset, pretrained ResNet-20",
    "pointnet": "chairs and monitors, PointNet",
}
INTRODUCTION = """# Measured

Written by `python benchmarks/measured.py` from the JSON under `benchmarks/results/`; a test holds it to that.
Each section names the script that makes its figures. Figures that fall short stand here as well.
"""


def main() -> int:
    text = "\n".join([INTRODUCTION, *sections()])
    if "--check" in sys.argv[1:]:
        return int(not PAGE.exists() or PAGE.read_text() != text)
    PAGE.write_text(text)
    return 0


def sections() -> Iterable[str]:
    for make in (
        demo,
        passports,
        triggers,
        ptynet,
        false_positives,
        forgeries,
        suites,
        bench,
        evidence,
        speed,
    ):
        if found := make():
            yield found


def demo() -> str:
    found = read(RESULTS / "demo.json")
    if not found:
        return ""
    rows = [["processor time", f"{found['processor seconds']:.0f} s of one core"]]
    for name, domain in found["domains"].items():
        before, after = (percent(domain[when]["value"], 1) for when in ("before", "after"))
        rows.append([f"{domain['role']}, {name}", f"{before} before, {after} after"])
    for name, verdict in found["verdicts"].items():
        rows.append([name, f"{verdict['decision']}, {verdict['matches']} of {verdict['trials']}"])
    return f"## The demo\n\n`python benchmarks/demo.py`\n\n{table(['what', 'figure'], rows)}"


def passports() -> str:
    cells = [read(path) for path in sorted((RESULTS / "ownership").glob("passport-*-[0-9].json"))]
    cost, kept = [], []
    for bed, name in BEDS.items():
        own = [cell for cell in cells if cell["bed"] == bed]
        if not own:
            continue
        means = [statistics.mean(c[k] for c in own) for k in ("plain", "deployment", "private")]
        worst = max(c["plain"] - c["deployment"] for c in own)
        forged = statistics.mean(c["accuracy with random passports, mean"] for c in own)
        bits = min(c["marked"]["bits"] for c in own)
        points = f"{100 * (means[0] - means[1]):.2f} (worst {100 * worst:.2f})"
        cost.append([name, str(len(own)), *map(percent, means), points, percent(bits, 0), percent(forged, 1)])
        for what in own[0]["after"]:
            after = min((c["after"][what] for c in own if what in c["after"]), key=lambda one: one["bits"])
            shares = [percent(after[k], 1) for k in ("bits", "bits without alignment", "bits by plain signs")]
            kept.append([name, what, percent(after["accuracy"], 1), *shares, f"{after['p']:.0e}"])
    if not cost:
        return ""
    head = [
        "model",
        "seeds",
        "before",
        "shipped",
        "private branch",
        "cost, points",
        "bits",
        "random passports",
    ]
    return (
        "## Passports\n\n`python benchmarks/ownership_passport.py run --seeds 0 1 2`. Accuracies on test "
        f"images, mean over seeds.\n\n{table(head, cost)}\nWhat is read after thefts, in the worst seed; "
        "beside it the readings without alignment to the reference, and by plain signs as published.\n\n"
        + table(["model", "theft", "accuracy", "bits", "unaligned", "plain signs", "p"], kept)
    )


def triggers() -> str:
    found = read(RESULTS / "ownership" / "trigger-set.json")
    if not found:
        return ""
    text = "## Trigger sets\n\n`python benchmarks/ownership_triggers.py mark`, then `attack`.\n"
    for name, mark in found.items():
        kind = "MNIST, convnet" if name.startswith("mnist") else "pretrained ResNet-20, CIFAR-10"
        verdict = mark["verdict"]
        text += (
            f"\n**{name}** on {kind}: {verdict['matches']} of {verdict['trials']} secret answers, "
            f"{mark['cost, points']:.2f} points of accuracy, {mark['processor seconds']:.0f} s of one core; "
            f"the unmarked model gives {mark['verdict on the original']['matches']}.\n"
        )
        rows = []
        for attack, after in mark["attacks"].items():
            last = after.get("last state", after)
            states = [f"{s['matches']} of {s['trials']}, p {s['p_adjusted']:.0e}" for s in (after, last)]
            accuracies = [percent(s["accuracy"]) for s in (after, last)]
            decisions = sorted({str(s["decision"]) for s in (after, last)})
            rows.append([attack, *states, " / ".join(accuracies), ", ".join(decisions)])
        if rows:
            head = ["attack", "thief's best state", "last state", "accuracy", "verdict"]
            text += f"\n{table(head, rows)}"
    return text


def ptynet() -> str:
    found = read(RESULTS / "ownership" / "ptynet-gate-0.json")
    if not found:
        return ""
    figures, held, wrong = found["figures"], found["held-out triggers"], found["wrong keys"]
    allowed = percent(found["overhead allowed"], 1)
    share = percent(figures["its operations to the target's"], 1)
    rows = [
        ["predictions identical", f"{found['predictions identical']} of {found['test images']} test images"],
        ["gate closed", f"{found['gate closed']} of {found['test images']}"],
        ["target's state-dict hash", "unchanged" if found["target's hash unchanged"] else "changed"],
        ["held-out triggers", f"{percent(held['success'], 1)} of {held['images']}"],
        ["wrong keys", f"{wrong['matches']} of {wrong['trials']} trials, {wrong['MATCH']} MATCH"],
        ["branch", f"{figures['weights of the branch']:.0f} weights, {share} of the target's operations"],
        ["embedding", f"{found['embedding, processor seconds']:.0f} s of one core"],
        ["verdict", f"{found['verdict']['decision']}, p {found['verdict']['p_adjusted']:.0e}"],
        *(
            [f"inference overhead, {batch} (allowed {allowed})", percent(value, 1)]
            for batch, value in found["overhead"].items()
        ),
    ]
    script = "`python benchmarks/ownership_ptynet.py mark`, then `measure`, on the pretrained ResNet-20."
    return f"## PTYNet\n\n{script}\n\n{table(['what', 'figure'], rows)}"


def false_positives() -> str:
    text = ""
    for method, script in (("trigger-set", "positives"), ("passport", "bits")):
        found = read(RESULTS / "ownership" / f"false-positives-{method}.json")
        if not found:
            continue
        rows = [
            [
                row["model"],
                f"{row['level']:g}",
                f"{row['attained']:.5f}",
                f"{row['at or below']}",
                f"{row['band'][0]} to {row['band'][1]} keys",
            ]
            for row in found["rows"]
        ]
        trials = len(next(iter(found["counts"].values()))) - 1
        text += (
            f"\n`python benchmarks/ownership_false_{script}.py`: {found['rows'][0]['keys']:,} random keys "
            f"of {method} on each unrelated model, {trials} trials. MATCH at 1e-6: {found['matches']}.\n\n"
        ) + table(["model", "level", "attained level", "keys at or below", "99.9 % band"], rows)
    return f"## False positives\n{text}" if text else ""


def forgeries() -> str:
    found = read(RESULTS / "ownership" / "forgery.json")
    if not found:
        return ""
    rows = []
    for row in found["forgeries"]:
        published, ours = row["published"], row["ours"]
        if not published:
            reached = "—"
        elif "triggers" in published:
            reached = f"{percent(published['triggers'], 0)} of the triggers"
        else:
            bits = percent(published["own bits detected"], 0)
            reached = f"accuracy {percent(published['private accuracy'], 1)}, {bits} of the bits"
        granted = "—" if not published else "yes" if published["accepted"] else "no"
        matches = "{} of {}".format(*ours["matches"])
        rows.append([row["forgery"], reached, granted, ours["decision"], matches])
    published = sum(row[2] == "yes" for row in rows)
    return (
        f"## Forgeries\n\n`python benchmarks/forgery.py`: of {len(rows)} forged claims the published "
        f"protocols accept {published}; this package accepts {len(found['accepted by ours'])}. "
        "[What they are](forgery.md).\n\n"
        + table(["forgery", "as published", "accepted", "verdict", "secret answers or bits"], rows)
    )


if __name__ == "__main__":
    sys.exit(main())
