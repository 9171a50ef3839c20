"""An audit finds what is there, and nothing where nothing is."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from flax import linen as nn

import stitching
from stitching import layers, report, similarity

moments = jax.jit(stitching.moments)
CLASSES, SEEN, HELD_OUT = 4, 300, 200


@jax.jit
def least_squares(x, y):
    return stitching.least_squares(stitching.moments(x, y))


class World:
    """Two networks that see one world: mixtures of features that tell the class.

    The activations are maps of 1 × 2 positions, of which the back takes the mean.
    """

    def __init__(self):
        rng = np.random.default_rng(0)
        n = SEEN + HELD_OUT
        labels = rng.integers(CLASSES, size=n)
        noise = rng.normal(size=(n, 1, 2, CLASSES))
        self.features = 2 * np.eye(CLASSES)[labels][:, None, None] + noise
        self.labels = jnp.asarray(labels[SEEN:])
        readout = rng.normal(size=(CLASSES, 6))
        self.own = split(self.features @ readout)
        mixed = self.features @ rng.normal(size=(CLASSES, 5))
        self.source = split(mixed + 0.05 * rng.normal(size=mixed.shape))
        self.inverse = np.linalg.pinv(readout)
        self.back = jax.jit(lambda maps: 5 * maps.mean((1, 2)) @ self.inverse)

    def audit(self, method=least_squares, key=0, **changed):
        given = {"source": self.source, "own": self.own} | changed
        return report.audit_activations(
            method,
            back=self.back,
            labels=self.labels,
            key=jax.random.key(key),
            **given,
        )


def split(array):
    array = jnp.asarray(array, jnp.float32)
    return array[:SEEN], array[SEEN:]


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def found(world):
    return world.audit(untrained=split(np.tanh(world.features @ np.ones((4, 5)))))


class TestAudit:
    def test_networks_that_hold_the_same_are_stitched_in_distribution(self, found):
        assert found.measures.relative_accuracy > 0.97
        assert found.r_squared > 0.95
        assert found.distance.beyond_99 < 0.05
        assert abs(found.distance.auroc - 0.5) < 0.1

    def test_a_network_stitched_to_itself_is_itself(self, found, world):
        assert abs(found.controls.self_stitch.relative_accuracy - 1) < 0.01
        identity = world.audit(
            lambda x, y: (
                lambda activation: (
                    activation @ jnp.eye(6)
                    if activation.shape[-1] == 6
                    else activation @ jnp.eye(5, 6)
                )
            )
        )
        assert identity.controls.self_stitch.relative_accuracy == 1
        assert identity.controls.self_stitch.agreement == 1

    @pytest.mark.parametrize("control", ["noise", "shuffled"])
    def test_what_tells_nothing_of_the_input_is_at_chance(self, found, control):
        hits = int(getattr(found.controls, control).hits[1].sum())
        commonest = float(found.chance * found.measures.reference_accuracy)
        test = scipy.stats.binomtest(hits, HELD_OUT, commonest, alternative="greater")
        assert test.pvalue > 0.001

    def test_an_untrained_network_is_between(self, found):
        controls = found.controls
        assert controls.untrained.accuracy < found.measures.accuracy - 0.1

    def test_without_an_untrained_network_there_is_no_such_control(self, world):
        found = world.audit()
        assert found.controls.untrained is None
        assert "untrained" not in str(found)

    def test_a_map_that_leaves_the_distribution_is_found_out(self, world):
        """The logits stay as they were: no measure of outputs can tell."""
        unseen = jnp.asarray(scipy.linalg.null_space(world.inverse.T)[:, 0])

        def leaving(x, y):
            fit = least_squares(x, y)
            return lambda activation: fit(activation) + 10 * unseen

        honest, found = world.audit(), world.audit(leaving)
        np.testing.assert_allclose(
            found.measures.relative_accuracy, honest.measures.relative_accuracy, 1e-6
        )
        assert abs(found.energy.auroc - honest.energy.auroc) < 0.01
        assert found.distance.beyond_99 == found.distance.auroc == 1
        assert found.distance.mean > 100
        assert found.r_squared < 0

    def test_a_map_that_makes_network_2_too_sure_is_found_out(self, world):
        def loud(x, y):
            fit = least_squares(x, y)
            return lambda activation: 5 * fit(activation)

        found = world.audit(loud)
        assert found.measures.relative_accuracy > 0.97
        assert found.energy.auroc < 0.1
        assert found.distance.beyond_99 > 0.9

    def test_r_squared_is_that_of_the_fit_on_held_out_moments(self, world, found):
        fit = least_squares(world.source[0], world.own[0])
        seen = stitching.moments(world.source[1], world.own[1])
        np.testing.assert_allclose(
            found.r_squared, stitching.r_squared(fit, seen), 1e-4
        )

    def test_a_map_that_diverged_is_a_finding(self, world):
        found = world.audit(
            lambda x, y: lambda activation: jnp.full((HELD_OUT, 1, 2, 6), jnp.nan)
        )
        assert found.measures.relative_accuracy == 0
        assert found.distance.beyond_99 == 1
        assert jnp.isnan(found.r_squared)
        assert "nan" in str(found)

    def test_maps_are_scored_by_image(self, world, found):
        seen = moments(world.own[0])
        fit = least_squares(world.source[0], world.own[0])
        scores = [
            report.mahalanobis(each, seen).mean(axis=(1, 2))
            for each in (fit(world.source[1]), world.own[1])
        ]
        expected = report.out_of_distribution(*scores)
        np.testing.assert_allclose(found.distance, expected, 1e-4)

    def test_printed_it_says_how_to_read_every_number(self, found):
        lines = str(found).splitlines()
        assert lines[0] == f"a stitch on {HELD_OUT} held-out samples"
        names = ["relative accuracy", "agreement", "cross-entropy", "R² at the cut"]
        names += ["distance", "energy", "self-stitch", "shuffled", "noise", "untrained"]
        for name in names:
            (line,) = [each for each in lines[1:] if name in each.split("  ")[0]]
            assert len(line.split()) > 6
        assert f"{found.measures.relative_accuracy:.3f}" in lines[1]

    def test_the_guide_shows_what_is_printed(self, found):
        guide = (pathlib.Path(stitching.__file__).parent / "README.md").read_text()
        shown = re.search(r"<!-- audit -->\n```text\n(.*?)\n```", guide, re.DOTALL)
        assert shown
        assert without_numbers(shown[1]) == without_numbers(str(found))


class TestAuditOfNetworks:
    """`audit` does by itself what one would do by hand with `audit_activations`."""

    def networks(self, width=6, outputs=4):
        layers = [nn.Dense(5), nn.tanh, nn.Dense(width), nn.tanh, nn.Dense(outputs)]
        return nn.Sequential(layers)

    def setup(self, width=6, outputs=4):
        x = jax.random.normal(jax.random.key(0), (300, 4))
        one, two = self.networks(width, outputs), self.networks(6, outputs)
        a, b, fresh = (
            m.init(jax.random.key(i), x) for i, m in enumerate((one, two, one))
        )
        halves = [stitching.cut(module, "layers_2", x) for module in (one, two)]
        stitched = stitching.stitch(halves[0], layers.Affine(6), halves[1])
        return x, a, b, fresh, stitched, jax.jit(two.apply)(b, x)

    # In float32 distances differ by more: inverse covariances multiply the rounding.
    # Weights of a mask are float32.
    @pytest.mark.usefixtures("x64")
    @pytest.mark.parametrize("weighted", [False, True])
    def test_it_is_the_audit_of_their_activations(self, weighted):
        x, a, b, fresh, stitched, logits = self.setup()
        labels = (logits + jax.random.normal(jax.random.key(9), logits.shape)).argmax(
            -1
        )
        rows = slice(0, 200), slice(200, 300)
        key = jax.random.key(3)
        mask = jnp.arange(300) % 3 > 0 if weighted else None

        def method(x, y, weights=None):
            assert (weights is None) == (mask is None)
            seen = slice(None) if weights is None else np.asarray(weights) > 0
            return stitching.least_squares(stitching.moments(x[seen], y[seen]))

        train, test = (
            (x[r], labels[r], *(() if mask is None else (mask[r],))) for r in rows
        )
        found = report.audit(
            stitched, method, a, b, train, test, key=key, untrained=fresh, batch_size=64
        )
        # By hand, without the samples that are masked.
        kept = [np.arange(300)[r] for r in rows]
        if mask is not None:
            kept = [each[np.asarray(mask)[each]] for each in kept]
        fronts = [
            tuple(cut.front(variables, x[r]) for r in kept)
            for cut, variables in (
                (stitched.cut_1, a),
                (stitched.cut_2, b),
                (stitched.cut_1, fresh),
            )
        ]
        expected = report.audit_activations(
            lambda x, y: stitching.least_squares(stitching.moments(x, y)),
            fronts[0],
            fronts[1],
            lambda activation: stitched.cut_2.back(b, activation),
            labels[kept[1]],
            key=key,
            untrained=fronts[2],
        )
        parts = [
            (
                each.measures,
                each.chance,
                each.r_squared,
                each.distance,
                each.energy,
                each.controls.self_stitch,
                each.controls.untrained,
            )
            for each in (found, expected)
        ]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-6, 1e-7), *parts)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_task_loss_trains_the_layer_between_networks_that_differ(self, weighted):
        x, a, b, _, stitched, logits = self.setup(width=9)
        labels = logits.argmax(-1)
        data = x, labels, *((jnp.arange(300) % 3 > 0,) if weighted else ())
        method = report.TaskLoss(optax.adam(0.05), steps=200, batch_size=50)
        found = report.audit(
            stitched,
            method,
            a,
            b,
            tuple(each[:200] for each in data),
            tuple(each[200:] for each in data),
            key=jax.random.key(1),
        )
        assert found.controls.self_stitch.relative_accuracy > 0.85
        assert found.measures.relative_accuracy > found.chance + 0.1

    @pytest.mark.parametrize("width", [6, 9])
    def test_a_stitching_layer_is_audited_alike_in_linen_and_nnx(self, width):
        """The self-stitch has as many channels as network 2, not as network 1."""
        x, a, b, _, stitched, logits = self.setup(width=width)
        found = []
        initial = stitched.init(jax.random.key(2), a, x)
        module = layers.to_nnx(stitched.layer, initial)
        for layer in (stitched.layer, module):
            found.append(
                report.audit(
                    stitching.stitch(stitched.cut_1, layer, stitched.cut_2),
                    report.TaskLoss(optax.adam(0.05), steps=200, batch_size=50),
                    a,
                    b,
                    (x[:200], logits[:200].argmax(-1)),
                    (x[200:], logits[200:].argmax(-1)),
                    key=jax.random.key(1),
                )
            )
        linen, other = (each.controls.self_stitch for each in found)
        np.testing.assert_allclose(other.cross_entropy, linen.cross_entropy, 1e-4)
        assert other.relative_accuracy > 0.85
        assert found[1].measures.relative_accuracy > found[1].chance + 0.1

    def test_a_direct_method_converts_shapes_as_an_nnx_layer_does(self):
        x, a, b, _, stitched, logits = self.setup(width=9)
        layer = layers.Affine(6, convert=halved)
        module = layers.to_nnx(layer, stitched.layer.init(jax.random.key(2), x))
        widths = []

        def method(x, y):
            widths.append(x.shape[-1])
            return least_squares(x, y)

        report.audit(
            stitching.stitch(stitched.cut_1, module, stitched.cut_2),
            method,
            a,
            b,
            (x[:200], logits[:200].argmax(-1)),
            (x[200:], logits[200:].argmax(-1)),
            key=jax.random.key(1),
        )
        assert widths == [4, 6, 4, 4]

    @pytest.mark.parametrize("weighted", [(), ("train",), ("test",), ("train", "test")])
    @pytest.mark.parametrize("kind", ["direct", "task loss"])
    def test_weights_go_to_the_method_where_training_data_have_some(
        self, weighted, kind
    ):
        x, a, b, _, stitched, logits = self.setup()
        given = []

        def direct(x, y, **options):
            given.append(set(options))
            return least_squares(x, y)

        task = report.TaskLoss(optax.adam(0.05), steps=5, batch_size=50)
        mask = jnp.arange(300) % 3 > 0
        rows = {"train": slice(0, 200), "test": slice(200, 300)}
        train, test = (
            (x[r], logits[r].argmax(-1), *((mask[r],) if part in weighted else ()))
            for part, r in rows.items()
        )
        found = report.audit(
            stitched,
            direct if kind == "direct" else task,
            a,
            b,
            train,
            test,
            key=jax.random.key(1),
        )
        counted = mask[200:].sum() if "test" in weighted else 100
        assert found.measures.hits.sum() == counted
        if kind == "direct":
            assert given == 4 * [{"weights"} if "train" in weighted else set()]

    @pytest.mark.parametrize("method", ["task loss", "least squares"])
    def test_a_regression_is_measured_by_its_r_squared(self, method):
        x, a, b, _, stitched, values = self.setup(outputs=2)
        whole = stitched.cut_2
        outputs = stitching.Cut(
            whole.front, lambda variables, y: {"place": whole.back(variables, y)}
        )
        stitched = stitching.stitch(stitched.cut_1, stitched.layer, outputs)
        noise = 0.1 * jax.random.normal(jax.random.key(5), values.shape)
        values = values + noise
        methods = {
            "task loss": report.TaskLoss(optax.adam(0.05), steps=300, batch_size=50),
            "least squares": least_squares,
        }
        found = report.audit(
            stitched,
            methods[method],
            a,
            b,
            (x[:200], values[:200]),
            (x[200:], values[200:]),
            key=jax.random.key(1),
            pick=lambda outputs: outputs["place"],
        )
        assert found.energy is None
        assert found.chance == 0
        assert found.controls.self_stitch.relative_r_squared > 0.9
        assert found.controls.noise.relative_r_squared < 0.2
        assert (
            found.measures.relative_r_squared > found.controls.noise.relative_r_squared
        )
        assert "relative R²" in str(found)


def halved(activation):
    return activation[..., :4]


def without_numbers(text):
    """A table's words, but for those that are numbers."""
    return re.sub(r"[ ]+-?\d+(\.\d+)?", " #", text)


MASKS = {
    "of images": np.arange(30) % 3,
    "of lengths": (np.arange(4) < 1 + np.arange(30)[:, None] % 4) * 1.0,
    "of positions": np.random.default_rng(1).integers(2, size=(30, 4)) > 0,
}


def of_all(mask):
    """A mask of each of 4 positions."""
    return np.broadcast_to(mask if mask.ndim == 2 else mask[:, None], (len(mask), 4))


class TestControls:
    def test_shuffled_activations_are_the_same_ones(self):
        x = np.random.default_rng(0).normal(size=(30, 2, 3)).astype(np.float32)
        got = np.asarray(report.shuffled(jax.random.key(0), x))
        assert (got != x).any()
        np.testing.assert_array_equal(np.sort(got, axis=0), np.sort(x, axis=0))
        # Images are moved whole.
        assert {each.tobytes() for each in got} == {each.tobytes() for each in x}

    def test_noise_has_mean_and_covariance_and_nothing_else(self):
        rng = np.random.default_rng(0)
        n = 20_000
        x = rng.exponential(size=(n, 3)) @ rng.normal(size=(3, 3)) + 100
        x = x.reshape(-1, 4, 3).astype(np.float32)
        noise = jax.jit(report.gaussian_noise)(jax.random.key(0), x)
        assert noise.shape == x.shape
        wanted, got = moments(x), moments(noise)
        scale = np.sqrt(np.diagonal(wanted.xx))
        # Five standard errors.
        assert (np.abs(got.mean_x - wanted.mean_x) / scale).max() < 5 / np.sqrt(n)
        assert (np.abs(got.xx - wanted.xx) / np.outer(scale, scale)).max() < 0.05
        across = similarity.cca(moments(x, noise))
        assert across < 10 * 3 / n
        skewness = scipy.stats.skew(np.asarray(noise).reshape(-1, 3))
        assert np.abs(skewness).max() < 0.1

    @pytest.mark.parametrize("name", MASKS)
    def test_shuffled_activations_that_count_are_the_same_ones(self, name):
        mask = MASKS[name]
        x = np.random.default_rng(0).normal(5, size=(30, 4, 3)).astype(np.float32)
        x[of_all(mask) == 0] = np.nan
        shuffled = jax.jit(report.shuffled)
        got = np.asarray(shuffled(jax.random.key(0), x, weights=mask))
        # What does not count stays among itself.
        np.testing.assert_array_equal(np.isnan(got), np.isnan(x))
        counted, were = (each[~np.isnan(each).any(axis=-1)] for each in (got, x))
        np.testing.assert_array_equal(np.sort(counted, axis=0), np.sort(were, axis=0))
        assert (counted != were).all(axis=-1).mean() > 0.7
        if mask.ndim == 1:  # images are moved whole
            whole = {each.tobytes() for each in x[mask > 0]}
            assert {each.tobytes() for each in got[mask > 0]} == whole

    def test_shuffled_weights_of_1_change_nothing(self):
        x = np.random.default_rng(0).normal(size=(30, 4, 3)).astype(np.float32)
        key = jax.random.key(0)
        np.testing.assert_array_equal(
            report.shuffled(key, x, weights=np.ones((30, 4))), report.shuffled(key, x)
        )

    @pytest.mark.parametrize("name", MASKS)
    def test_noise_is_like_what_counts(self, name):
        rng = np.random.default_rng(0)
        mask = np.concatenate([MASKS[name]] * 100)
        x = 5 + rng.normal(size=(3000, 4, 3)).astype(np.float32)
        full = of_all(mask)
        x[full == 0] = np.nan
        noise = np.asarray(report.gaussian_noise(jax.random.key(0), x, weights=mask))
        assert (noise[full == 0] == 0).all()
        wanted, got = (moments(each, weights=mask) for each in (x, noise))
        np.testing.assert_allclose(got.mean_x, wanted.mean_x, atol=0.1)
        np.testing.assert_allclose(got.xx, wanted.xx, atol=0.1)

    @pytest.mark.parametrize("name", MASKS)
    def test_controls_of_an_audit_are_of_the_samples_that_count(self, name):
        """Padding is neither shuffled among the data nor in the noise's moments."""
        rng = np.random.default_rng(0)
        mask = np.concatenate([MASKS[name]] * 10)
        x = (5 + rng.normal(size=(300, 4, 3))).astype(np.float32)
        own = np.tanh(x)
        counts, seen = of_all(mask) > 0, []

        def method(activation, own, weights):
            seen.append(np.asarray(activation)[counts[:200]])
            return lambda activation: activation

        report.audit_activations(
            method,
            (x[:200], x[200:]),
            (own[:200], own[200:]),
            lambda activation: activation,
            np.zeros((100, 4), int),
            key=jax.random.key(0),
            weights=(mask[:200], mask[200:]),
        )
        source, _, shuffled, noise = seen
        np.testing.assert_array_equal(source, x[:200][counts[:200]])
        np.testing.assert_array_equal(
            *(np.sort(each.reshape(-1, 3), axis=0) for each in (source, shuffled))
        )
        for found in (shuffled, noise):
            assert abs(found.mean() - 5) < 0.2
            assert abs(found.std() - 1) < 0.2
            assert (found != source).any(axis=-1).mean() > 0.7

    def test_the_procedure_gets_seen_and_held_out_activations(self, world):
        shapes = []

        def stitch(seen, held_out):
            shapes.append((seen.shape, held_out.shape))
            return held_out.mean()

        found = report.controls(
            stitch, world.source, world.own, key=jax.random.key(0), untrained=world.own
        )
        own, source = (
            tuple((n, 1, 2, channels) for n in (SEEN, HELD_OUT)) for channels in (6, 5)
        )
        assert shapes == [own, source, source, own]
        np.testing.assert_allclose(found.shuffled, world.source[1].mean(), 1e-5)

    def test_the_key_alone_decides(self, world):
        one, again, other = (world.audit(key=key) for key in (0, 0, 1))
        assert one.controls.noise.cross_entropy == again.controls.noise.cross_entropy
        assert one.controls.noise.cross_entropy != other.controls.noise.cross_entropy


class TestIdentification:
    def test_ranks_are_those_of_scipy(self):
        scores = np.random.default_rng(0).normal(size=(7, 7)).round(1)
        found = report.identification(scores)
        ranks = scipy.stats.rankdata(-scores, axis=1).diagonal()
        np.testing.assert_allclose(found.ranks, ranks)
        np.testing.assert_allclose(found.mean_rank, ranks.mean(), 1e-6)
        np.testing.assert_array_equal(found.best, scores.argmax(axis=1))

    def test_layers_that_are_best_matched_by_themselves_are_all_identified(self):
        found = report.identification(np.eye(5))
        assert found.accuracy == found.mean_rank == 1

    def test_scores_that_say_nothing_are_at_chance(self):
        found = report.identification(np.zeros((5, 5)))
        np.testing.assert_allclose(found.accuracy, found.chance)
        np.testing.assert_allclose(found.mean_rank, found.chance_rank)
        random = np.random.default_rng(0).normal(size=(200, 5, 5))
        many = jax.jit(jax.vmap(report.identification))(random)
        # Five standard errors of the means of 1,000 rows.
        assert abs(many.accuracy.mean() - many.chance[0]) < 0.065
        assert abs(many.mean_rank.mean() - many.chance_rank[0]) < 0.23

    def test_a_score_that_is_not_defined_is_the_worst(self):
        scores = np.eye(3)
        scores[1, 1] = np.nan
        found = report.identification(scores)
        assert found.ranks.tolist() == [1, 3, 1]

    def test_layers_of_two_networks_are_told_apart_by_cka(self):
        """Each layer of a deep map adds something of its own; seeds are mixings."""
        rng = np.random.default_rng(0)
        layers, hidden = [], rng.normal(size=(200, 4))
        for _ in range(3):
            layers.append(hidden)
            hidden = np.tanh(2 * hidden @ rng.normal(size=(4, 4)))
        mixed = [each @ np.linalg.qr(rng.normal(size=(4, 4)))[0] for each in layers]
        scores = report.layer_scores(similarity.cka, layers, mixed)
        np.testing.assert_allclose(
            scores[0, 1], similarity.cka(layers[0], mixed[1]), 1e-6
        )
        assert report.identification(scores).accuracy == 1
