"""Which units of one network belong to which units of another."""

from combinability.matching._activations import activation_matching
from combinability.matching._embed import embed
from combinability.matching._many import ManyMatching, match_many
from combinability.matching._match import Matching, match, weight_matching
from combinability.matching._straight_through import straight_through_matching
from combinability.matching._transport import SoftMatching, soft_matching, transport

__all__ = [
    "ManyMatching",
    "Matching",
    "SoftMatching",
    "activation_matching",
    "embed",
    "match",
    "match_many",
    "soft_matching",
    "straight_through_matching",
    "transport",
    "weight_matching",
]
