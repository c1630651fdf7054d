from vlm.feature_kinds import FeatureKind, base_kind, side_by_side


def test_kinds_lie_side_by_side_and_deep_is_joined_with_what_stands_before_it():
    kinds = side_by_side({"pooled": (5,), "projected": (3,), "deep": (2, 4)})
    assert kinds == {
        "pooled": FeatureKind("pooled", 0, (5,)),
        "projected": FeatureKind("projected", 5, (3,)),
        "deep": FeatureKind("deep", 8, (2, 4)),
        "projected+deep": FeatureKind("projected+deep", 5, (3, 2, 4)),
    }
    assert kinds["projected+deep"].columns == slice(5, 14)


def test_the_base_kind_is_the_projection_where_there_is_one():
    assert base_kind(side_by_side({"pooled": (5,), "projected": (3,), "deep": (2,)})).name == "projected"
    assert base_kind(side_by_side({"pooled": (5,), "deep": (2,)})).name == "pooled"
    assert base_kind(side_by_side({"deep": (2,)})).name == "deep"
