"""What the test split supports, label by label, and the rules by which that was decided."""

from __future__ import annotations

from analysis.claims import RULES, claimed, unclaimed
from analysis.evidence import Evidence
from analysis.section import Folded, Section, Terms, Words

TITLE = "What may be claimed"


def run(evidence: Evidence) -> Section:
    spoken = claimed(evidence.claims)
    entries = [(claim.label or "on average", claim.score, claim.conclusion) for claim in spoken]
    kinds = ["best" if not claim.label else "" for claim in spoken]
    if silent := unclaimed(evidence.claims):
        entries.append(("no claim", "", f"{silent}."))
        kinds.append("quiet")
    return Section(
        parts=[
            Words(
                text=f"About {evidence.best}, the configuration chosen on validation, by rules that were "
                "written before any test score was seen."
            ),
            Terms(entries=entries, kinds=kinds),
            Folded(title="The rules behind these sentences", parts=[Words(lines=RULES)]),
        ]
    )
