"""The experiments on stitching: what they compute, keep, claim and draw."""

import copy
import dataclasses
import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import stitching
from benchmarks import data, models, report, weights
from benchmarks import stitching as experiment
from benchmarks.__main__ import main
from benchmarks.configs.stitching import spread_pairs
from benchmarks.intervals import over_networks, rank_correlation
from benchmarks.networks import make_task
from benchmarks.runs import encode, read_result
from benchmarks.stitching import Config
from benchmarks.stitching._layers import even, find_layers
from benchmarks.stitching._summary import claims

SMALL = Config(
    model="mlp",
    width=8,
    networks=3,
    training_steps=200,
    layers=("Dense_1",),
    pairs=3,
    deep=1,
    cross=1,
    cross_steps=5,
    other_width=6,
    between=2,
    audited=1,
    fit_rows=200,
    test_rows=100,
    cross_rows=100,
    steps=12,
    batch_size=32,
    ranks=(0.25,),
    penalties=(0.1,),
    task_penalties=(1.0,),
)
OPTIONS = [
    "--model=mlp",
    "--width=8",
    "--networks=3",
    "--training-steps=200",
    "--layers=Dense_1",
    "--pairs=3",
    "--deep=1",
    "--cross=1",
    "--cross-steps=5",
    "--other-width=6",
    "--between=2",
    "--audited=1",
    "--fit-rows=200",
    "--test-rows=100",
    "--cross-rows=100",
    "--steps=12",
    "--batch-size=32",
    "--ranks=0.25",
    "--penalties=0.1",
    "--task-penalties=1.0",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder of `python -m benchmarks stitching`."""
    folder = tmp_path_factory.mktemp("stitching") / "run"
    assert main(["stitching", *OPTIONS, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def found(run):
    return read_result(run)


def test_the_command_asks_what_the_options_say(found):
    asked = json.loads(json.dumps(dataclasses.asdict(SMALL)))
    assert found["config"] == asked


def test_finished_stages_are_not_computed_again(run, found):
    stages = {path: path.stat().st_mtime for path in (run / "stages").iterdir()}
    # Training, networks, three pairs at a layer and by indices, cross and audit; of the
    # other kind training, and two networks in both directions.
    assert len(stages) == 1 + 1 + 3 * (1 + 1) + 1 + 1 + (1 + 2 * 2)
    (run / "result.json").unlink()
    again = read_again(experiment.run(SMALL, folder=run))
    assert again["claims"] == found["claims"]
    assert again["stitches"] == found["stitches"]
    assert {path: path.stat().st_mtime for path in stages} == stages


def read_again(result):
    return json.loads(encode(result))


def test_every_pair_has_the_main_maps_and_the_first_ones_all(found):
    for maps in found["stitches"].values():
        for name in ("least squares", "Procrustes", "task loss: affine"):
            assert len(maps[name]["relative_accuracy"]["pairs"]) == 3
        for name in ("sparse 0.1", "semi-matching", "task loss: orthogonal"):
            assert len(maps[name]["relative_accuracy"]["pairs"]) == 1


def test_soft_outputs_of_a_network_bring_the_stitch_nearer_to_it(found):
    for maps in found["stitches"].values():
        towards = [n.partition("affine to ")[2] for n in maps if "affine to " in n]
        assert len(towards) == 7
        entropies = {
            of: maps[f"task loss: affine to {of}"]["cross_entropy"]["mean"]
            for of in ("soft outputs", "soft outputs of a", "soft outputs of both")
        }
        assert entropies["soft outputs"] == min(entropies.values())


def test_a_constant_map_is_at_chance_with_the_variance_as_residual(found):
    for maps in found["stitches"].values():
        assert maps["mean"]["relative_accuracy"]["mean"] < 0.35
        assert maps["mean"]["residual"]["mean"] == pytest.approx(1, abs=0.05)
        assert maps["mean"]["density"] == 0


def test_least_squares_leaves_the_least_of_the_direct_maps(found):
    # Held out, so a little more than nothing is allowed.
    for maps in found["stitches"].values():
        best = maps["least squares"]["residual"]["mean"]
        for name in ("Procrustes", "permutation", "reduced rank 0.25"):
            assert maps[name]["residual"]["mean"] > best - 0.02


def test_densities_are_those_of_the_classes_of_maps(found):
    for maps in found["stitches"].values():
        assert maps["permutation"]["density"] == pytest.approx(1 / 8)
        assert maps["sparse 0.1"]["density"] < 1


def test_a_network_is_matched_to_itself_but_noise_is_not(found):
    for methods in found["audit"]["layers"].values():
        controls = methods["least squares"]["controls"]
        assert controls["self_stitch"]["mean"] == pytest.approx(1, abs=0.02)
        assert controls["noise"]["mean"] < 0.5


def test_every_figure_is_drawn_and_the_page_holds_the_claims(run):
    drawn = {path.stem for path in run.glob("*.png")}
    expected = {"layers", "layer_to_layer", "sizes", "indices", "audit", "controls"}
    assert drawn == expected | {"between_kinds"}
    page = (run / "report.html").read_text()
    for claim in ("A low rank is enough", "CKA disagrees", "Can it be trusted?"):
        assert claim in page


def test_runs_side_by_side_say_which_indices_rise_with_performance(found, tmp_path):
    folders = [tmp_path / str(place) for place in range(3)]
    for place, folder in enumerate(folders):
        changed = copy.deepcopy(found)
        maps, indices = (changed[name]["Dense_1"] for name in ("stitches", "indices"))
        indices["CKA"]["pairs"] = [place, 2.0 * place, 5.0 - place]
        maps["task loss: affine"]["relative_accuracy"]["pairs"] = [place + 1.0] * 3
        maps["least squares"]["relative_accuracy"]["pairs"] = [1.0 - place] * 3
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps(changed))
    page = report.compare(folders)
    (shown,) = (x.panels[0] for x in page.figures if x.name == "predictions")
    cka = shown.draws[0].args[0]["CKA"]
    # In two pairs of three the index rises with the runs.
    assert cka["task loss: affine"].mean == pytest.approx(1 / 3)
    assert cka["least squares"].mean == pytest.approx(-1 / 3)
    two = report.compare(folders[:2])
    assert all(figure.name != "predictions" for figure in two.figures)


@pytest.fixture(scope="module")
def kept(run):
    """The networks that the run has kept, stitched at two layers."""
    few = dataclasses.replace(SMALL, weights=("networks/trained.npz",), pairs=1)
    few = dataclasses.replace(few, layers=("Dense_0", "Dense_1"), deep=0, audited=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run)
        return read_again(experiment.run(few))


def test_networks_that_a_run_has_kept_are_stitched_again(found, kept):
    assert kept["networks"] == found["networks"]
    assert kept["audit"] is None
    again, first = (
        each["stitches"]["Dense_1"]["least squares"]["relative_accuracy"]
        for each in (kept, found)
    )
    assert again["pairs"] == first["pairs"][:1]


def test_layer_to_layer_has_least_squares_of_the_layer_itself(kept):
    # On fewer rows: near to what all rows give.
    matrix = np.array(kept["cross"]["matrices"]["r_squared"])
    assert matrix.shape == (2, 2)
    for place, maps in enumerate(kept["stitches"].values()):
        residual = maps["least squares"]["residual"]["mean"]
        assert matrix[place, place] == pytest.approx(1 - residual, abs=0.2)


def test_layer_to_layer_has_every_index_of_moments_and_both_ways_of_matching(kept):
    matrices = kept["cross"]["matrices"]
    assert {"least squares", "task loss", "r_squared"} < set(matrices)
    indices = {name for name in kept["indices"]["Dense_0"] if "images" not in name}
    assert indices < set(matrices)
    assert set(kept["cross"]["correlations"]["task loss"]) == indices | {"r_squared"}


def test_two_kinds_of_networks_are_stitched_in_both_directions(found):
    other = found["other"]
    assert (other["model"], other["width"]) == ("mlp", 6)
    # The layers asked for are of the first kind.
    assert [layer["name"] for layer in other["layers"]] == [
        f"Dense_{i}" for i in range(3)
    ]
    assert len(other["test_accuracy"]) == 2
    for direction, shape in (("ahead", (1, 3)), ("back", (3, 1))):
        for matrix in other[direction]["matrices"].values():
            assert np.shape(matrix) == shape
        assert other[direction]["identification"] == {}
        # Trained networks, so better than chance.
        assert np.mean(other[direction]["matrices"]["task loss"]) > 0.3


@pytest.mark.parametrize(
    ("options", "model", "width"),
    [
        ({}, None, None),
        ({"other_width": 4}, "mlp", 4),
        ({"other_model": "cnn"}, "cnn", None),
        ({"model": "vgg", "width": 4, "other_model": "vgg"}, "vgg", None),
    ],
)
def test_the_other_kind_is_what_the_options_say(options, model, width):
    other = Config(**{"model": "mlp"} | options).other
    found = (None, None) if other is None else (other.model, other.width)
    assert found == (model, width)
    assert other is None or other.other is None


def test_fifteen_indices_predict_over_layers_and_over_pairs(found, kept):
    assert len(kept["indices"]["Dense_0"]) == 15
    # Over three pairs at one layer, against SciPy; over one layer there is none.
    for predicted in ("least squares", "task loss: affine"):
        maps, indices = (found[name]["Dense_1"] for name in ("stitches", "indices"))
        performance = maps[predicted]["relative_accuracy"]["pairs"]
        for name, index in indices.items():
            ranks: Any = stats.spearmanr(index["pairs"], performance)
            mean = found["between_pairs"][predicted][name]["mean"]
            assert mean == pytest.approx(ranks.statistic, abs=1e-4)
            assert found["correlations"][predicted][name]["mean"] is None
    closeness = found["between_pairs"]["closeness"]
    assert set(closeness) == set(found["indices"]["Dense_1"])


def test_the_interval_of_a_statistic_leaves_out_one_network_at_a_time():
    pairs, values = [(0, 1), (1, 2), (2, 3), (3, 0)], np.array([1.0, 5.0, 2.0, 4.0])
    found = over_networks(pairs, values, np.max)
    # Without network 0, 1, 2, 3 the largest are 5, 4, 4, 5.
    half = stats.t.ppf(0.975, 3) * np.sqrt(3 / 4 * 4 * 0.5**2)
    assert found["mean"] == 5
    assert found["high"] - found["mean"] == pytest.approx(half)


def _task(module):
    return make_task(data.load("digits"), module)


def test_published_files_are_found_in_the_data_folder(tmp_path):
    task = _task(models.MLP(10, (4,)))
    variables = task.init(jax.random.key(0))
    weights.save(tmp_path / "one.safetensors", variables)
    given = (task.network.module, task.example, tmp_path)
    (read,) = weights.read_networks(["one.safetensors"], *given)
    kernel = ("params", "Dense_0", "kernel")
    for name in kernel:
        read, variables = read[name], variables[name]
    np.testing.assert_array_equal(read, variables)
    with pytest.raises(data.DataError, match=r"there is no file 'two\.npz'"):
        weights.read_networks(["two.npz"], *given)


class _Residual(nn.Module):
    """A layer with its input beside it."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(4, name="first")(x.reshape(len(x), -1))
        x = x + nn.Dense(4, name="beside")(x)
        return nn.Dense(10, name="last")(x)


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (("beside",), "got 'beside', which the network's input bypasses"),
        (("frst",), "nearest are 'first'"),
    ],
)
def test_layers_that_cannot_be_stitched_are_rejected(layers, said):
    config = dataclasses.replace(SMALL, layers=layers)
    with pytest.raises(ValueError, match=said):
        find_layers(config, _task(_Residual()))


@pytest.mark.parametrize(
    ("model", "shape", "expected"),
    [
        ("mlp", (8, 8, 1), ["Dense_0", "Dense_1"]),
        ("cnn", (8, 8, 1), ["Conv_0", "Conv_1", "Dense_0"]),
        ("tiny10", (32, 32, 3), [f"bn{i}" for i in range(1, 9)]),
        ("vit", (8, 8, 1), [f"_Block_{i}" for i in range(4)]),
        ("resnet20", (32, 32, 3), [f"_Block_{i}" for i in range(9)]),
    ],
)
def test_layers_suit_the_model(model, shape, expected):
    split = data.Split(np.zeros((2, *shape), np.float32), np.zeros(2, np.int32))
    dataset = data.Dataset("zeros", split, split, split, classes=10, kind="image")
    task = make_task(dataset, models.build(model, dataset))
    layers = find_layers(Config(model=model), task)
    assert [layer.name for layer in layers] == expected
    assert all(layer.cut.is_bottleneck for layer in layers)


def test_pairs_are_ordered_different_and_spread_over_the_networks():
    pairs = spread_pairs(10, 10)
    assert len(set(pairs)) == 10
    assert sorted(i for i, _ in pairs) == sorted(j for _, j in pairs) == list(range(10))
    assert len(set(sum(pairs[:5], ()))) == 10  # the first share no network
    assert len(set(spread_pairs(4, 100))) == 12
    assert all(i != j for i, j in spread_pairs(4, 100))


def test_rows_are_whole_batches_of_one_size():
    for rows in (1, 300, 500, 501, 1197, 5000):
        batches = -(-rows // 500)
        assert rows - batches < even(rows) <= rows
        assert even(rows) % batches == 0


def test_rank_correlation_ignores_gaps_and_monotone_change():
    x = [[0.1, None], [0.5, 0.3]]
    assert rank_correlation(x, np.exp(np.array(x, float))) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert np.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))


def _layers(relative, distance, low):
    """One layer of three pairs, with the numbers that claims are of."""

    def scores(kind, at, accuracy, far):
        return {
            "kind": kind,
            "setting": at,
            "accuracy": accuracy,
            "relative_accuracy": accuracy,
            "distance": far,
        }

    maps = {
        "least squares": scores("least squares", None, 0.9, 1.0),
        "reduced rank 0.25": scores("reduced rank", 0.25, 0.9 * low, 1.0),
        "task loss: affine": scores("affine", None, relative, distance),
    }
    return {"layer": [maps] * 3}


@pytest.mark.parametrize(
    ("relative", "distance", "low", "verdicts"),
    [
        (0.95, 10.0, 0.99, ("holds", "holds", "holds", "holds")),
        (0.8, 0.5, 0.5, ("does not hold",) * 4),
    ],
)
def test_claims_follow_from_the_numbers(relative, distance, low, verdicts):
    pairs = [(0, 1), (1, 2), (2, 0)]
    layers = _layers(relative, distance, low)
    stitches = {
        name: {m: {"relative_accuracy": _same(pairs, v)} for m, v in _relative(maps)}
        for name, maps in layers.items()
    }
    related = {"task loss: affine": {i: _same(pairs, 0.9) for i in ("CKA", "CCA")}}
    found = claims(
        pairs, layers, {"stitches": stitches, "correlations": related, "cross": None}
    )
    told = {row["claim"]: row["verdict"] for row in found}
    names = (
        "networks match by one affine layer: task loss",
        "task loss finds better maps",
        "a low rank is enough: least squares",
        "task loss leaves what network 2 knows",
    )
    assert tuple(told[name] for name in names) == verdicts
    assert told["CKA disagrees with performance"] == "does not hold"


@pytest.mark.parametrize("missing", [("distance", None), ("accuracy", 0.0)])
def test_a_claim_without_a_number_is_undecided(missing):
    measure, value = missing
    pairs = [(0, 1), (1, 2), (2, 0)]
    layers = _layers(0.95, 10.0, 0.99)
    for maps in layers["layer"]:
        for scores in maps.values():
            scores[measure] = value
    summary = {
        "stitches": {
            "layer": {m: {"relative_accuracy": _same(pairs, 0.9)} for m in maps}
        },
        "correlations": {
            "task loss: affine": {i: _same(pairs, 0.9) for i in ("CKA", "CCA")}
        },
        "cross": None,
    }
    told = {row["claim"]: row for row in claims(pairs, layers, summary)}
    claim = {
        "distance": "task loss leaves what network 2 knows",
        "accuracy": "a low rank is enough: least squares",
    }[measure]
    assert told[claim]["verdict"] == "undecided"
    assert told[claim]["mean"] is None


def _relative(maps):
    return [(name, scores["relative_accuracy"]) for name, scores in maps[0].items()]


def _same(pairs, value):
    return over_networks(pairs, [value] * len(pairs))


def test_a_stitch_of_a_network_to_itself_by_the_identity_is_the_network():
    # What `Studies.scores` reports, seen from the networks.
    task = _task(models.MLP(10, (4,)))
    variables = task.init(jax.random.key(0))
    (layer,) = find_layers(Config(model="mlp"), task)
    x = task.test.inputs[:5]
    unchanged = stitching.Fit(jnp.eye(4), jnp.zeros(4))
    stitched = layer.cut.back(variables, unchanged(layer.cut.front(variables, x)))
    whole: Any = task.network.apply(variables, x)
    np.testing.assert_allclose(stitched, whole, rtol=1e-5, atol=1e-6)


def test_one_network_cannot_be_stitched(tmp_path):
    task = _task(models.MLP(10, (8,) * 3))
    path = tmp_path / "one.safetensors"
    weights.save(path, task.init(jax.random.key(0)))
    with pytest.raises(
        ValueError, match="expected at least 2 networks to stitch, got 1"
    ):
        experiment.run(dataclasses.replace(SMALL, weights=(str(path),)))
