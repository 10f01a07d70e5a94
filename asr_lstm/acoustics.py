"""What a room and a telephone do to a voice, in numpy: image-source responses, G.711, and fast convolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np
import soxr
from numpy.typing import ArrayLike, NDArray

SPEED_OF_SOUND = 343.0  # m/s in air of 20 degrees
# Allen and Berkley, section II: the images are all positive and add up to a rumble that no room has.
_HIGH_PASS_HZ = 100.0

# Rooms for the pool, in metres: from a small office to a classroom.
_SMALLEST_ROOM = (2.5, 2.5, 2.3)
_LARGEST_ROOM = (9.0, 7.0, 3.5)
_FROM_THE_WALLS = 0.3
# Nobody speaks from farther away to be recognised; nearer than this is a headset and no room is heard.
_DISTANCES = (0.3, 3.0)
# A response is cut where it has fallen so far: what follows lies below the noise of most recordings.
_HEARD_DB = 40.0

# Shorter transforms spend their time in Python, longer ones in fetching memory.
_LEAST_BLOCK = 1 << 14

TELEPHONE_RATE = 8000
TELEPHONE_BAND = (300.0, 3400.0)  # Hz
# With a Hamming window the edges are then 165 Hz wide (3.3 times the rate over the taps).
_BAND_TAPS = 161

Law = Literal["mu", "a"]
Samples = NDArray[np.float32]


def room_response(
    size: ArrayLike,
    source: ArrayLike,
    microphone: ArrayLike,
    *,
    reflection: float,
    seconds: float,
    rate: int,
) -> Samples:
    """The impulse response of a rectangular room with walls alike, by the image method.

    Source: Allen and Berkley 1979, "Image method for efficiently simulating small-room acoustics", equation 10,
    each image at the nearest sample, then their high-pass of 100 Hz.

    Args:
        size: length, width and height in metres.
        source: where the speaker is, from the same corner.
        microphone: where it is heard.
        reflection: share of the pressure that a wall gives back, 0 .. 1.
        seconds: length of the response.
        rate: in Hz.

    Returns:
        (samples,); the sound that comes straight, `distance` metres, has the height 1 / (4 pi distance).
    """
    samples = round(seconds * rate)
    reach = SPEED_OF_SOUND * samples / rate
    along, across, up = (
        _axis_images(*place, reflection=reflection, reach=reach)
        for place in zip(*(np.asarray(point, float) for point in (size, source, microphone)), strict=True)
    )
    plane = np.add.outer(across[0], up[0]).ravel()
    gains = np.multiply.outer(across[1], up[1]).ravel() / (4 * math.pi)
    nearest_first = np.argsort(plane)
    plane, gains = plane[nearest_first], gains[nearest_first]
    response = np.zeros(samples + 1)
    for square, gain in zip(*along, strict=True):  # a plane at a time, which the processor's cache holds
        heard = np.searchsorted(plane, reach**2 - square)
        distances = np.sqrt(square + plane[:heard])
        arrivals = np.rint(distances * (rate / SPEED_OF_SOUND)).astype(np.intp)
        response += np.bincount(arrivals, gain * gains[:heard] / distances, minlength=samples + 1)
    return _high_pass(response[:samples], rate=rate).astype(np.float32)


def _axis_images(
    length: float, source: float, microphone: float, *, reflection: float, reach: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Along one axis: squared distance from the microphone of each image, and its gain after the walls it met."""
    if not (0 < source < length and 0 < microphone < length):
        raise ValueError(f"source and microphone must stand in the room, not at {source} and {microphone}")
    most = math.ceil(reach / (2 * length)) + 1
    rooms = np.arange(-most, most + 1)[:, None]
    mirrored = np.array([0, 1])
    offsets = (1 - 2 * mirrored) * source - microphone + 2 * rooms * length
    walls = np.abs(rooms - mirrored) + np.abs(rooms)
    return offsets.ravel() ** 2, (reflection ** walls.astype(float)).ravel()


def _high_pass(response: NDArray[np.float64], *, rate: int) -> NDArray[np.float64]:
    """Allen and Berkley's filter of two poles, from its transfer function; its own response ends within 20 ms."""
    angle = 2 * math.pi * _HIGH_PASS_HZ / rate
    radius = math.exp(-angle)
    size = 2 ** math.ceil(math.log2(len(response) + rate // 20))
    delay = np.exp(-2j * math.pi * np.arange(size // 2 + 1) / size)
    above = 1 - (1 + radius) * delay + radius * delay**2
    below = 1 - 2 * radius * math.cos(angle) * delay + radius**2 * delay**2
    filtered = np.fft.irfft(np.fft.rfft(response, size) * (above / below), size)
    return np.asarray(filtered[: len(response)])


def wall_reflection(size: ArrayLike, *, decay_seconds: float) -> float:
    """The `reflection` with which sound in a room falls by 60 dB in `decay_seconds`.

    Source: Eyring 1930, "Reverberation time in 'dead' rooms": T = 24 ln(10) V / (c S -ln(1 - a)), solved for
    the absorption a of the energy; 1 - a is the square of the pressure that comes back.
    """
    length, width, height = np.asarray(size, float)
    surface = 2 * (length * width + length * height + width * height)
    exponent = 24 * math.log(10) * length * width * height / (SPEED_OF_SOUND * surface * decay_seconds)
    return math.exp(-exponent / 2)


def draw_room(random: np.random.Generator, *, decay_seconds: float, rate: int) -> Samples:
    """The response (samples,) of a random room with this decay, from the sound that comes straight on."""
    size = random.uniform(_SMALLEST_ROOM, _LARGEST_ROOM)
    low, high = np.full(3, _FROM_THE_WALLS), size - _FROM_THE_WALLS
    while True:
        source, microphone = random.uniform(low, high), random.uniform(low, high)
        distance = float(np.linalg.norm(source - microphone))
        if _DISTANCES[0] <= distance <= _DISTANCES[1]:
            break
    straight = distance / SPEED_OF_SOUND
    response = room_response(
        size,
        source,
        microphone,
        reflection=wall_reflection(size, decay_seconds=decay_seconds),
        seconds=straight + decay_seconds * _HEARD_DB / 60,
        rate=rate,
    )
    return response[round(straight * rate) :]


class Filters:
    """Convolution with one of several responses, whose spectra are computed once (overlap-save).

    Source: Oppenheim and Schafer, "Discrete-Time Signal Processing", section 8.7.3.

    Args:
        responses: (samples,) each.
        delay: samples by which what comes out is moved ahead; half the length makes symmetric filters zero-phase.
    """

    def __init__(self, responses: Sequence[Samples], *, delay: int = 0) -> None:
        longest = max(len(response) for response in responses)
        self._size = max(_LEAST_BLOCK, 2 ** math.ceil(math.log2(2 * longest)))
        self._reach = longest - 1
        self._delay = delay
        self._spectra = [np.fft.rfft(response, self._size).astype(np.complex64) for response in responses]

    def __len__(self) -> int:
        return len(self._spectra)

    def __call__(self, audio: Samples, index: int) -> Samples:
        """Audio (samples,) through one of the responses, as long as before."""
        step = self._size - self._reach
        blocks = -(-(len(audio) + self._delay) // step)
        padded = np.zeros(self._reach + blocks * step, np.float32)
        padded[self._reach : self._reach + len(audio)] = audio
        filtered = np.empty(blocks * step, np.float32)
        for start in range(0, len(filtered), step):
            spectrum = np.fft.rfft(padded[start : start + self._size]) * self._spectra[index]
            filtered[start : start + step] = np.fft.irfft(spectrum, self._size)[self._reach :]
        return filtered[self._delay : self._delay + len(audio)]


def telephone(audio: Samples, *, rate: int, law: Law) -> Samples:
    """Audio (samples,) as a fixed telephone network carries it: 300 to 3400 Hz at 8 kHz, 8 bits a sample.

    Args:
        audio: beyond [-1, 1] it is clipped.
        rate: of the audio, in Hz, and of what comes out, which is as long.
        law: the companding of North America and Japan (`mu`) or of elsewhere (`a`).
    """
    # Medium quality: what it leaves above 3400 Hz the band filter takes away.
    narrow = audio if rate == TELEPHONE_RATE else soxr.resample(audio, rate, TELEPHONE_RATE, quality="MQ")
    heard = compand(_band_filter()(narrow, 0), law=law)
    if rate != TELEPHONE_RATE:
        heard = soxr.resample(heard, TELEPHONE_RATE, rate, quality="MQ")
    result: Samples = np.zeros_like(audio)
    result[: len(heard)] = np.clip(heard[: len(audio)], -1.0, 1.0)  # a sample longer or shorter, and ringing
    return result


@cache
def _band_filter() -> Filters:
    """A windowed ideal band-pass, zero-phase, so that what is said stays in its place."""
    half = _BAND_TAPS // 2
    place = np.arange(-half, half + 1)
    low, high = (2 * edge / TELEPHONE_RATE for edge in TELEPHONE_BAND)
    ideal = high * np.sinc(high * place) - low * np.sinc(low * place)
    return Filters([(ideal * np.hamming(_BAND_TAPS)).astype(np.float32)], delay=half)


def compand(audio: Samples, *, law: Law) -> Samples:
    """Audio in [-1, 1] coded in 8 bits a sample and decoded again, as ITU-T G.711 says; clipped beyond."""
    levels = np.rint(np.clip(audio, -1.0, 1.0) * 32767).astype(np.int32)
    heard: Samples = _decoded(law)[levels + 32768]
    return heard


@cache
def _decoded(law: Law) -> Samples:
    """What each 16-bit level, from -32768 on, becomes. Eight segments a sign, 16 steps each, decoded to mid-step."""
    levels = np.arange(-32768, 32768)
    if law == "mu":  # G.711 table 2, its 14 bits as 16; the segments begin 33 below the powers of two
        bias, top, finest = 33 * 4, 8158 * 4 + 3, 8.0
    else:  # G.711 table 1, its 13 bits as 16
        bias, top, finest = 0, 32767, 16.0
    magnitudes = np.minimum(np.abs(levels), top) + bias
    steps = np.maximum(2.0 ** (np.floor(np.log2(np.maximum(magnitudes, 1))) - 4), finest)
    decoded = (np.floor(magnitudes / steps) + 0.5) * steps - bias
    signed: Samples = (np.where(levels < 0, -decoded, decoded) / 32768).astype(np.float32)
    return signed
