"""What the test split supports, label by label, and the rules by which that was decided."""

from __future__ import annotations

from analysis.claims import claimed, rules, unclaimed
from analysis.evidence import Evidence
from analysis.predictors import PAPER, PUBLICATION, PUBLISHED, STUDY
from analysis.section import Folded, Section, Terms, Words

TITLE = "What may be claimed"


def run(evidence: Evidence) -> Section:
    spoken = claimed(evidence.claims)
    entries = [(claim.name or "on average", claim.score, claim.conclusion) for claim in spoken]
    kinds = ["best" if not claim.label else "" for claim in spoken]
    if silent := unclaimed(evidence.claims):
        entries.append(("no claim", "", f"{silent}."))
        kinds.append("quiet")
    published = f"{PUBLISHED} ({PUBLICATION})"
    chosen = "the study's answer" if evidence.best == STUDY else "the configuration chosen on validation"
    about = f"About {evidence.best}, {chosen}, "
    if evidence.best_is_published:
        about += f"which is {published} itself, "
    about += "by rules that were written before any test score was seen."
    if evidence.has(PAPER) and not evidence.best_is_published:
        about += f" The row {PAPER} is {published}."
    if not evidence.claim_possible:
        about += (
            " No claim about a label was possible, whatever its scores: of so many labels and opponents the "
            "correction leaves no p-value that would count. Analyse fewer labels."
        )
    return Section(
        parts=[
            Words(text=about),
            Terms(entries=entries, kinds=kinds),
            Folded(
                title="The rules behind these sentences",
                parts=[Words(lines=rules(evidence.study.objective))],
            ),
        ]
    )
