"""How one camera lies to another, from pairs of rays of which most show the same point: geometry only.

A ray is a unit vector (3,) in its camera's frame, so any central camera will do, fisheyes beyond 180 degrees included. A
robust essential matrix comes from outside as the first guess; what is made of it here:

1. Starts. The first guess can lie in the wrong valley: two views of a plane have two motions (Longuet-Higgins, "The
   reconstruction of a plane surface from two perspective projections", Proc. R. Soc. B 1986), few depths confuse turning with
   moving sideways, and a sharp threshold counts chance pairs in full. Besides the guess there are the motions of the
   homography that fits best, and the best pure rotation with several directions of translation.
2. Each is refined on all pairs: Gauss-Newton on the manifold of essential matrices (Helmke et al., IJCV 2007) with a loss that
   ends by ignoring outliers, from wide to narrow.
3. The four motions of an essential matrix (Hartley and Zisserman, section 9.6.3) are told apart by the likelihood of all pairs.
   A point in front of both cameras is seen by the match on the arc between the query's ray, where it would be at infinity,
   and the direction of translation, where it would be at the camera. The angle by which a pair misses that arc is its
   error: cheirality without a threshold of distance. Rays of little parallax weigh little, and a motion turned by 180
   degrees misses by far. The best minima are refined once more on the pairs in front, by the noise that they show.
4. A pure rotation is taken where parallax does not exceed the noise: a likelihood ratio test (Wilks 1938) in which every pair's
   depth is a parameter, the choice that Torr's GRIC (IJCV 2002) makes by penalties instead.
5. Where another motion explains the pairs about equally well, there is no answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vpr_ros.types import Pose

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rays = NDArray[np.float64]
"""(N, 3) unit vectors."""

LEAST_PAIRS = 8
WIDTHS = (4.0, 2.5, 1.5, 1.0)
"""Of the loss while starts are refined, in units of the noise. Guesses that fit some pairs well already are refined at 1."""
ROUGH_STARTS = 3
POLISHING_WIDTHS = (1.5, 1.0, 1.0, 1.0)
MOST_NOISE = 3
"""Rounds of that, each with more noise than the one before had expected."""
POLISHED = 4
"""Minima that are refined to the end."""
SAME_VALLEY = 0.9995
"""Cosine between essential matrices that lead to one minimum."""
NEAREST = 10.0
"""A pair with so many times the median parallax is an outlier: the less parallax, the more one of those would turn the motion."""
WORST = 6.0
"""What an outlier costs in log likelihood: as much as an error of sqrt(2 WORST) sigma."""
FINEST = 0.2
"""No fit is trusted to be better than this share of the expected noise."""
OVERDISPERSION = 6.0
"""How much larger the variance of an estimate is than independent errors of the residuals' size would make it.

Errors of features are not independent: neighbours share the blur, the resampling, the moving edge that they lie on and, with a
rolling shutter, the time; some outliers lie near their epipolar lines; near a degenerate scene the minimum is no parabola.
Normalised squared errors against their chi square medians ask for 1.6 (rotation) to 5 (direction) on rendered worlds with exact
poses, for 4 on steps of KITTI's drive, and for more than 10 on a shaking hand-held camera.
"""
EXTENT = 0.5
"""Over how many rad outliers are spread across epipolar planes, about."""
MARGIN = 3 * WORST
"""No motion is preferred to another for the sake of fewer outliers than these: chance may have put them there."""
SIGMAS = 3.0
"""How many standard deviations are no chance: of parallax, and between two motions."""
DOUBT = 1.5
"""How much larger than the noise that a fit leaves its true variance may be."""
MAX_OPEN_ROTATION = np.radians(2.0)
"""Motions that explain the pairs equally well and differ by less in rotation are one rotation, known with that error."""
MAX_OPEN_DIRECTION = np.radians(30.0)
"""The same of the direction of translation, which otherwise is not known."""

_GENERATORS = np.array(
    [
        [[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]],
        [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 0.0]],
        [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
    ]
)
_QUARTER_TURNS = _GENERATORS[2] * np.array([1.0, -1.0])[:, None, None] + np.diag([0.0, 0.0, 1.0])
_SIGNS = np.array([1.0, -1.0])


@dataclass(frozen=True, slots=True, eq=False)
class RelativePose:
    """`match_from_query` and what is known of it.

    Its translation has unit length, or is zero where the pairs do not show a direction. `covariance` (6, 6), x y z in m,
    then rotation in rad about the match camera's axes; the distance l between the cameras, which they cannot see, has mean
    1 and a standard deviation that the caller chose. `inlier` (N,) are the pairs that the motion explains.
    """

    match_from_query: Pose
    covariance: Floats
    inlier: Bools

    @property
    def direction_known(self) -> bool:
        """Whether the translation is a direction and not the zero vector."""
        return bool(self.match_from_query[:3, 3].any())


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """N rays of each camera."""

    query: Rays
    match: Rays

    def __getitem__(self, chosen: Bools) -> _Pairs:
        return _Pairs(self.query[chosen], self.match[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class _Motion:
    """One of the four motions of an essential matrix, whose factors U and V `frame` (2, 3, 3) holds.

    By angles in rad pairs miss their epipolar planes, `errors` (N,), and lie `beyond` the ends of their arcs (N,); `misses` (N,)
    are both, squared: a step along the arc is the sum of two rays' errors, an epipolar error a mean.
    """

    rotation: Floats
    translation: Floats
    frame: Floats
    errors: Floats
    beyond: Floats
    misses: Floats


def relative_pose(
    query: Rays,
    match: Rays,
    essential: Floats | None,
    likely: Bools,
    noise: float,
    scale_sigma_m: float,
    calibration: float = 0.0,
) -> RelativePose | None:
    """The motion that pairs of rays show, or None where they leave it open.

    `essential` (3, 3) is a first guess, if there is one, and `likely` (N,) the pairs that made it. `noise` is the
    standard deviation to expect of a ray, in rad: what is not within some of it is an outlier. `calibration` is how far rays may
    be off together, in rad.
    """
    if len(query) < LEAST_PAIRS or np.count_nonzero(likely) < LEAST_PAIRS:
        return None
    pairs = _Pairs(query, match)
    rotation = best_rotation(query[likely], match[likely], noise)
    starts = _starts(pairs[likely], rotation, noise)
    widths = np.ones((len(starts) + (essential is not None), len(WIDTHS)))
    widths[:ROUGH_STARTS] = WIDTHS
    frames = _factors(np.concatenate([starts, *([] if essential is None else [essential[None]])]))
    motions = _ranked(_motions(_refined(frames, pairs, noise * widths), pairs, noise), noise)
    for _ in range(MOST_NOISE):
        minima = _distinct(motions)
        sigma = _spread(minima[0], noise)
        frames = np.array([minimum.frame for minimum in minima])
        in_front = np.array([minimum.beyond < SIGMAS * noise for minimum in minima])
        widths = sigma * np.tile(POLISHING_WIDTHS, (len(minima), 1))
        motions = _motions(_refined(frames, pairs, widths, in_front), pairs, sigma)
        sigma = _spread(_ranked(motions, sigma)[0], noise)
        motions = _ranked(motions, sigma)
        if sigma < noise:
            break
        noise *= 1.5  # the pairs are worse than expected, and some good ones may have been left out
    return _decided(motions, rotation, pairs, sigma, scale_sigma_m, calibration)


def _decided(
    motions: list[_Motion], rotation: Floats, pairs: _Pairs, sigma: float, scale_sigma_m: float, calibration: float
) -> RelativePose | None:
    best = motions[0]
    inlier = best.misses < (SIGMAS * sigma) ** 2
    if np.count_nonzero(inlier) < LEAST_PAIRS:
        return None
    # outliers that lie near any epipolar plane by chance: their number, and what they add to one motion's likelihood
    by_chance = np.count_nonzero(~inlier) * 2 * SIGMAS * sigma / EXTENT
    still = _pure_rotation(pairs, rotation, inlier, best, sigma, scale_sigma_m, by_chance)
    if still is not None:
        return still
    claimed = _covariance(best, pairs, sigma, calibration) + 1e-14 * np.eye(6)
    covariance, is_open = claimed.copy(), False
    margin = MARGIN + WORST * np.sqrt(2 * by_chance)
    for other in motions[1:]:
        if _cost(other.misses, sigma) - _cost(best.misses, sigma) > margin:
            break
        turn = rotation_vector(other.rotation @ best.rotation.T)
        apart = np.concatenate([other.translation - best.translation, turn])
        if apart @ np.linalg.solve(claimed, apart) < SIGMAS**2:
            continue
        if np.linalg.norm(turn) > MAX_OPEN_ROTATION:
            return None
        is_open |= other.translation @ best.translation < np.cos(MAX_OPEN_DIRECTION)
        covariance += np.outer(apart, apart)
    if is_open:
        return _without_direction(best.rotation, covariance[3:, 3:], scale_sigma_m, inlier)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = best.rotation, best.translation
    covariance[:3, :3] += scale_sigma_m**2 * (covariance[:3, :3] + np.outer(best.translation, best.translation))
    return RelativePose(pose, covariance, inlier)


def _pure_rotation(
    pairs: _Pairs,
    rotation: Floats,
    inlier: Bools,
    best: _Motion,
    sigma: float,
    scale_sigma_m: float,
    by_chance: float,
) -> RelativePose | None:
    """The motion without parallax, if what the best motion with a depth for each pair gains over it is within chance.

    Twice the gain in log likelihood then has a chi square distribution with a degree of freedom for each pair's depth
    and two for the direction: mean n and variance 2 n, times `DOUBT`. Some of the inliers may be `by_chance`. What parallax the test
    cannot see may hide in the rotation.
    """
    seen = pairs[inlier]
    count = len(seen.query)
    most = DOUBT * (count + 2) + SIGMAS * np.sqrt(2.0 * (count + 2))
    outliers = 2 * WORST * (by_chance + SIGMAS * np.sqrt(by_chance))
    least = _cost(best.misses[inlier], sigma)
    for rounds in (0, 3):  # mostly the first look is enough
        rotation = best_rotation(seen.query, seen.match, sigma, rotation, rounds)
        misses = np.square(seen.match - seen.query @ rotation.T).sum(axis=1) / 2
        gain = 2 * (_cost(misses, sigma) - least)
        if gain > (most + outliers) * (1 if rounds else WORST):
            return None
    weights = 1 / (1 + misses / (4 * sigma**2)) ** 2
    normal = (np.eye(3) * weights.sum() - (seen.match * weights[:, None]).T @ seen.match) / (2 * sigma**2)
    spread = np.linalg.inv(normal / OVERDISPERSION + np.eye(3)) + 2 * sigma**2 * (most / count - 1) * np.eye(3)
    return _without_direction(rotation, spread, scale_sigma_m, inlier)


def _without_direction(rotation: Floats, spread: Floats, scale_sigma_m: float, inlier: Bools) -> RelativePose:
    """Nowhere is likelier than anywhere else within a distance of mean square 1 + scale_sigma_m^2."""
    pose, covariance = np.eye(4), (1 + scale_sigma_m**2) * np.eye(6)
    pose[:3, :3], covariance[3:, 3:] = rotation, spread
    return RelativePose(pose, covariance, inlier)


def _covariance(motion: _Motion, pairs: _Pairs, sigma: float, calibration: float) -> Floats:
    """(6, 6) of unit translation and rotation: sigma^2 (J'WJ)^-1, `OVERDISPERSION` times, and what calibration adds.

    Rays that are off together by an angle move the direction of translation by it, and the rotation by it times twice the
    sine of half the angle of the rotation, as a change of axes does.
    """
    frames = motion.frame[None]
    (jacobian,) = _epipolar_jacobian(frames, pairs, *_epipolar_errors(frames, pairs))
    weights = (motion.beyond < SIGMAS * sigma) / (1 + np.square(motion.errors / (2 * sigma))) ** 2
    normal = (jacobian * weights) @ jacobian.T / (OVERDISPERSION * sigma**2)
    # one radian of prior: with a vanishing baseline the direction is unknown, not infinitely wrong
    spread = np.linalg.inv(normal + np.eye(5))
    u, v = motion.frame
    sign = np.sign(u[:, 2] @ motion.translation)
    lift = np.zeros((6, 5))
    lift[:3, 0], lift[:3, 1] = -sign * u[:, 1], sign * u[:, 0]  # t = U e3, and U turns to U (1 + [a]x)
    lift[3:, :3], lift[3:, 3:] = u, -motion.rotation @ v[:, :2]  # R = U W V'
    result = lift @ spread @ lift.T
    result[:3, :3] += calibration**2 * (np.eye(3) - np.outer(motion.translation, motion.translation))
    result[3:, 3:] += calibration**2 * max(0.0, 3.0 - float(np.trace(motion.rotation))) * np.eye(3)
    return (result + result.T) / 2


def _starts(pairs: _Pairs, rotation: Floats, noise: float) -> Floats:
    """(S, 3, 3) essential matrices: the best rotation with the direction that fits it best and the two across it, a plane's motions."""
    normals = np.cross(pairs.query @ rotation.T, pairs.match)
    normals /= np.sqrt(np.square(normals).sum(axis=1) + 4 * noise**2)[:, None]
    # the directions turn with the cameras: no choice of axes changes the answer
    directions = np.linalg.eigh(normals.T @ normals)[1].T
    planar = [cross_matrix(translation) @ turn for turn, translation in motions_of_plane(_homography(pairs, noise))]
    return np.concatenate([cross_matrix(directions) @ rotation, *(essential[None] for essential in planar)])


def _refined(frames: Floats, pairs: _Pairs, widths: Floats, counted: Bools | None = None) -> Floats:
    """Essential matrices (S, 2, 3, 3) after a step of Gauss-Newton for each width in rad (S, W) of Geman and McClure's loss.

    `counted` (S, N) leaves pairs out.
    """
    diagonal = np.arange(5)
    for width in widths.T:
        errors, lengths, axes = _epipolar_errors(frames, pairs)
        jacobian = _epipolar_jacobian(frames, pairs, errors, lengths, axes)
        weights = 1 / (1 + np.square(errors / (2 * width[:, None]))) ** 2
        weighted = jacobian * (weights if counted is None else weights * counted)[:, None]
        normal = weighted @ np.swapaxes(jacobian, 1, 2)
        size = normal[:, diagonal, diagonal]
        normal[:, diagonal, diagonal] += 1e-6 * size + 1e-9 * size.max(axis=1, keepdims=True) + 1e-15
        step = np.zeros((len(frames), 6))
        step[:, :5] = -np.linalg.solve(normal, weighted @ errors[..., None])[..., 0]
        step *= np.minimum(1.0, 0.3 / np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-12))
        frames = frames @ cayley(step.reshape(-1, 2, 3))
    return frames


def _epipolar_errors(frames: Floats, pairs: _Pairs) -> tuple[Floats, Floats, tuple[Floats, Floats]]:
    """Sampson's first-order errors on the sphere (S, N) in rad, what divides them, and match and query rays along U and V."""
    u, vt = frames[:, 0], np.swapaxes(frames[:, 1], 1, 2)
    match, query = np.swapaxes(u, 1, 2) @ pairs.match.T, vt @ pairs.query.T
    lengths = np.sqrt(np.maximum(2.0 - match[:, 2] ** 2 - query[:, 2] ** 2, 1e-12))  # |E x|^2 + |E' y|^2
    return (match[:, 1] * query[:, 1] + match[:, 0] * query[:, 0]) / lengths, lengths, (match, query)


def _epipolar_jacobian(
    frames: Floats, pairs: _Pairs, errors: Floats, lengths: Floats, axes: tuple[Floats, Floats]
) -> Floats:
    """(S, 5, N) derivatives of the errors as U turns about its three axes and V about its first two; E = U diag(1, 1, 0) V'.

    Those of the denominator matter: without them a small parallax is drawn to its noise.
    """
    match, query = axes
    drawn = errors / lengths
    jacobian = np.empty((len(frames), 5, errors.shape[1]))
    jacobian[:, 0] = match[:, 2] * (query[:, 1] - drawn * match[:, 1])
    jacobian[:, 1] = match[:, 2] * (drawn * match[:, 0] - query[:, 0])
    jacobian[:, 2] = match[:, 1] * query[:, 0] - match[:, 0] * query[:, 1]
    jacobian[:, 3] = query[:, 2] * (match[:, 1] - drawn * query[:, 1])
    jacobian[:, 4] = query[:, 2] * (drawn * query[:, 0] - match[:, 0])
    return jacobian / lengths[:, None]


def sampson_errors(essential: Floats, query: Rays, match: Rays) -> Floats:
    """(N,) signed first-order angles in rad by which rays miss y' E x = 0 (Hartley and Zisserman, eq. 11.9, on the sphere)."""
    lines, back = query @ essential.T, match @ essential
    lengths = np.sqrt(np.square(lines).sum(axis=1) + np.square(back).sum(axis=1))
    return np.sum(match * lines, axis=1) / np.maximum(lengths, 1e-12)


def _motions(frames: Floats, pairs: _Pairs, sigma: float) -> list[_Motion]:
    """The four motions of each essential matrix (S, 2, 3, 3)."""
    u, v = frames[:, 0], frames[:, 1]
    rotations = u[:, None] @ _QUARTER_TURNS @ np.swapaxes(v, 1, 2)[:, None]
    translations = u[:, None, :, 2] * _SIGNS[:, None]
    errors = _epipolar_errors(frames, pairs)[0]
    along, end = arcs(rotations, translations, pairs.query, pairs.match)
    shown = (along >= 0) & (along <= end) & (np.abs(errors) < SIGMAS * sigma)[:, None, None]
    middle = np.maximum(shown.sum(axis=-1, keepdims=True) // 2, 1) - 1
    median = np.take_along_axis(np.sort(np.where(shown, along, np.inf), axis=-1), middle, axis=-1)
    beyond = beyond_arc(along, np.minimum(end, NEAREST * median + SIGMAS * sigma))
    misses = np.square(errors)[:, None, None] + np.square(beyond) / 2
    return [
        _Motion(rotations[k, a], translations[k, b], frames[k], errors[k], beyond[k, a, b], misses[k, a, b])
        for k, a, b in np.ndindex(len(frames), 2, 2)
    ]


def _ranked(motions: list[_Motion], sigma: float) -> list[_Motion]:
    """The likeliest first."""
    costs = _cost(np.array([motion.misses for motion in motions]), sigma)
    return [motions[k] for k in np.argsort(costs, kind="stable")]


def arcs(rotations: Floats, translations: Floats, query: Rays, match: Rays) -> tuple[Floats, Floats]:
    """How far along the great circle from query ray to direction of translation match rays lie, and the latter; in rad.

    For rotations (S, A, 3, 3) and unit translations (S, B, 3), two arrays (S, A, B, N). A point in front of both cameras is seen
    between 0, at infinity, and the end, at the match's camera.
    """
    turned = query @ np.swapaxes(rotations, -1, -2)
    near = np.sum(turned * match, axis=-1)[:, :, None]
    ahead = translations[:, None] @ np.swapaxes(turned, -1, -2)
    seen = (translations @ match.T)[:, None]
    height = np.sqrt(np.maximum(1.0 - ahead**2, 1e-24))
    return np.arctan2((seen - ahead * near) / height, near), np.arctan2(height, ahead)


def beyond_arc(along: Floats, end: Floats) -> Floats:
    """Angles in rad by which `along` lies beyond the arc from 0 to `end` (in [0, pi]) of its circle; 0 on it."""
    over = np.minimum(np.abs(along), np.abs((along - end + np.pi) % (2 * np.pi) - np.pi))
    return np.where((along >= 0) & (along <= end), 0.0, over)


def _distinct(motions: list[_Motion]) -> list[_Motion]:
    """The best few of different valleys."""
    chosen: list[_Motion] = []
    for motion in motions:
        essential = cross_matrix(motion.translation) @ motion.rotation
        others = [abs(np.sum(essential * (cross_matrix(m.translation) @ m.rotation))) / 2 for m in chosen]
        if not others or max(others) < SAME_VALLEY:
            chosen.append(motion)
        if len(chosen) == POLISHED:
            break
    return chosen


def _cost(misses: Floats, sigma: float) -> Floats:
    """(..., N) squared angles -> (...), the negative log likelihood but for a constant."""
    return np.minimum(misses / (2 * sigma**2), WORST).sum(axis=-1)


def _spread(motion: _Motion, noise: float) -> float:
    """Standard deviation in rad of epipolar errors, a Gaussian and a constant: expectation maximisation."""
    half_width = 2 * SIGMAS * noise
    squares = np.square(motion.errors[(np.abs(motion.errors) < half_width) & (motion.beyond < SIGMAS * noise)])
    if len(squares) < LEAST_PAIRS:
        return noise
    sigma, share, weights = noise, 0.8, np.ones(len(squares))
    for _ in range(6):
        density = share * np.exp(-squares / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
        weights = density / (density + (1 - share) / (2 * half_width))
        share = float(np.clip(weights.mean(), 0.3, 0.999))
        sigma = max(FINEST * noise, float(np.sqrt(weights @ squares / weights.sum())))
    return sigma * float(np.sqrt(weights.sum() / max(weights.sum() - 5, 1.0)))  # five parameters were fitted


def best_rotation(query: Rays, match: Rays, noise: float, start: Floats | None = None, rounds: int = 3) -> Floats:
    """(3, 3): Kabsch (Acta Cryst. 1976) on the rays, reweighted so that what parallax or chance moved counts little."""
    rotation = start
    weights = np.ones(len(query))
    for _ in range(rounds):
        if rotation is not None:
            squares = np.square(match - query @ rotation.T).sum(axis=1)
            weights = 1 / (1 + squares / (4 * max(2 * noise**2, float(np.median(squares)) / 2))) ** 2
        u, _, vt = np.linalg.svd((match * weights[:, None]).T @ query)
        u[:, 2] *= np.sign(np.linalg.det(u @ vt))
        rotation = u @ vt
    return np.eye(3) if rotation is None else rotation


def _homography(pairs: _Pairs, noise: float, rounds: int = 2) -> Floats:
    """(3, 3) that takes query rays to match rays, by the direct linear transform (Hartley and Zisserman, 4.1), reweighted."""
    homography, weights = np.eye(3), np.ones(len(pairs.query))
    outer = (pairs.match[:, :, None] * pairs.query[:, None, :]).reshape(-1, 9)
    for _ in range(rounds):
        query, products = pairs.query * weights[:, None], outer * weights[:, None]
        gram = (
            np.kron(np.eye(3), query.T @ pairs.query) - products.T @ outer
        )  # of the cross products of match and H query
        homography = np.linalg.eigh(gram)[1][:, 0].reshape(3, 3)
        mapped = pairs.query @ homography.T
        mapped /= np.maximum(np.linalg.norm(mapped, axis=1, keepdims=True), 1e-12)
        sign = 1.0 if np.sum(mapped * pairs.match) >= 0 else -1.0
        homography, squares = sign * homography, np.square(sign * mapped - pairs.match).sum(axis=1)
        weights = 1 / (1 + squares / (4 * max(2 * noise**2, float(np.median(squares)) / 2))) ** 2
    return homography


def motions_of_plane(homography: Floats) -> list[tuple[Floats, Floats]]:
    """Up to two rotations (3, 3) with the line of their translation, unit (3,), of a plane's homography (3, 3).

    Ma, Soatto, Kosecka and Sastry, "An Invitation to 3-D Vision" (2004), theorem 5.19. None for a pure rotation.
    """
    homography = homography / max(np.linalg.svd(homography)[1][1], 1e-12)
    _, singular, vt = np.linalg.svd(homography)
    high, _, low = singular**2
    if high - low < 1e-9:
        return []
    v1, v2, v3 = vt * np.sign(np.linalg.det(vt))
    level, slope = np.sqrt(max(1 - low, 0.0) / (high - low)) * v1, np.sqrt(max(high - 1, 0.0) / (high - low)) * v3
    motions = []
    for u in (level + slope, level - slope):
        normal = np.cross(v2, u)
        before = np.column_stack([v2, u, normal])
        after = np.column_stack([homography @ v2, homography @ u, np.cross(homography @ v2, homography @ u)])
        left, _, right = np.linalg.svd(after @ before.T)
        rotation = left @ right
        translation = (homography - rotation) @ normal
        length = np.linalg.norm(translation)
        if np.linalg.det(rotation) > 0 and length > 1e-9:
            motions.append((rotation, translation / length))
    return motions


def _factors(essentials: Floats) -> Floats:
    """(S, 3, 3) -> (S, 2, 3, 3), the rotations U and V of E = U diag(1, 1, 0) V' but for sign."""
    u, _, vt = np.linalg.svd(essentials)
    u, vt = (a * np.sign(np.linalg.det(a))[:, None, None] for a in (u, vt))
    return np.stack([u, np.swapaxes(vt, 1, 2)], axis=1)


def cross_matrix(vectors: Floats) -> Floats:
    """(..., 3) -> (..., 3, 3): the matrix whose product with b is the cross product with b."""
    return (vectors @ _GENERATORS.reshape(3, 9)).reshape(*vectors.shape, 3)


def cayley(vectors: Floats) -> Floats:
    """(..., 3) -> (..., 3, 3): a rotation about each vector by about its length in rad, 2 atan(length / 2)."""
    k = cross_matrix(vectors / 2)
    return np.eye(3) + 2 / (1 + np.square(vectors / 2).sum(axis=-1))[..., None, None] * (k + k @ k)


def rotation_vector(rotation: Floats) -> Floats:
    """(3, 3) -> (3,) axis times angle in rad; at 180 degrees the axis is lost and the length is not."""
    twice = np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    sine, angle = np.linalg.norm(twice), np.arctan2(np.linalg.norm(twice), np.trace(rotation) - 1.0)
    axis = twice / sine if sine > 1e-12 else np.array([1.0, 0.0, 0.0])
    return axis * angle
