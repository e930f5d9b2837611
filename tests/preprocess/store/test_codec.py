"""Flow, pictures and sound as bytes."""

from contextlib import suppress

import cv2
import numpy as np
import pytest

from preprocess.store.codec import (
    check_jpegs,
    decode_flow,
    decode_rgb,
    dequantise_flow,
    encode_flow,
    encode_rgb,
    quantise_flow,
)
from preprocess.store.format import FLOW_BOUND, FLOW_ZERO
from tests.support.cases import case
from tests.support.videos import drift

STEP = FLOW_BOUND / 127  # pixels a frame


def check(*jpegs: np.ndarray, size: tuple[int, int]) -> None:
    """check_jpegs of these frames, one behind the other."""
    check_jpegs(np.concatenate(jpegs), np.cumsum([0, *map(len, jpegs)]), size)


def flow_back(code: np.ndarray) -> np.ndarray:
    """(H, W, 2) uint8 → the same through a JPEG."""
    return np.moveaxis(decode_flow(encode_flow(code)), 0, -1)


def smooth(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A smooth flow field, (H, W, 2), within the bound."""
    field = np.random.default_rng(seed).uniform(-15, 15, (4, 5, 2)).astype(np.float32)
    return cv2.resize(field, shape[::-1], interpolation=cv2.INTER_CUBIC)


def test_no_motion_is_the_byte_128_and_comes_back_as_exactly_nothing():
    still = np.zeros((6, 8, 2), np.float32)
    assert (quantise_flow(still) == 128).all()
    assert (dequantise_flow(quantise_flow(still)) == 0).all()
    assert (quantise_flow(-still) == FLOW_ZERO).all()


def test_quantising_is_the_formula_of_the_design():
    flow = np.random.default_rng(0).uniform(-30, 30, (50, 60, 2)).astype(np.float32)
    expected = np.round(128 + np.clip(flow, -20, 20).astype(np.float64) * 127 / 20)
    assert np.abs(quantise_flow(flow).astype(int) - expected).max() <= 1  # where rounding meets a tie
    assert (quantise_flow(flow) == expected).mean() > 0.999


def test_a_round_trip_errs_by_half_a_step_at_most():
    bound = 5.0
    flow = np.linspace(-bound, bound, 100_001, dtype=np.float32).reshape(-1, 1)
    back = dequantise_flow(quantise_flow(flow, bound=bound), bound=bound)
    assert back.dtype == np.float32
    assert np.abs(back - flow).max() <= bound / 127 / 2 * (1 + 1e-4)


def test_faster_motion_than_the_bound_is_clipped_alike_on_both_sides():
    for speed in (20.0, 20.1, np.inf):
        code = quantise_flow(np.array([speed, -speed], np.float32))
        assert code.tolist() == [255, 1]
        np.testing.assert_allclose(dequantise_flow(code), [20.0, -20.0], rtol=1e-6)


def test_quantising_is_odd_so_that_flipping_a_flow_is_negating_it():
    flow = np.random.default_rng(1).uniform(-25, 25, 10_000).astype(np.float32)
    np.testing.assert_array_equal(dequantise_flow(quantise_flow(-flow)), -dequantise_flow(quantise_flow(flow)))


def test_still_flow_survives_its_jpeg_exactly():
    for size in ((32, 48), (33, 47), (1, 3)):
        code = np.full((*size, 2), FLOW_ZERO, np.uint8)
        np.testing.assert_array_equal(flow_back(code), code)


@pytest.mark.parametrize("size", [(36, 50), (128, 170)])
def test_flow_survives_its_jpeg_within_a_few_steps(size):
    flow = smooth(size)
    back = dequantise_flow(flow_back(quantise_flow(flow)))
    assert back.shape == flow.shape
    assert np.abs(back - flow).mean() < STEP
    assert np.quantile(np.abs(back - flow), 0.99) < 4 * STEP


def test_horizontal_and_vertical_flow_are_not_exchanged():
    flow = np.zeros((16, 24, 2), np.float32)
    flow[..., 0], flow[..., 1] = 3.0, -6.0
    back = dequantise_flow(flow_back(quantise_flow(flow)))
    np.testing.assert_allclose(back, flow, atol=STEP)


def test_a_flow_jpeg_is_a_grey_image_with_x_above_y():
    code = np.zeros((16, 24, 2), np.uint8)
    code[..., 0], code[..., 1] = 200, 50
    image = cv2.imdecode(encode_flow(code), cv2.IMREAD_UNCHANGED)
    assert image.shape == (32, 24)
    assert abs(image[:16].mean() - 200) < 1
    assert abs(image[16:].mean() - 50) < 1


def test_a_picture_keeps_its_colours_in_their_order():
    rgb = np.broadcast_to(np.array((250, 10, 80), np.uint8), (32, 43, 3))
    back = decode_rgb(encode_rgb(np.ascontiguousarray(rgb)))
    np.testing.assert_allclose(back, rgb, atol=4)


def test_a_picture_survives_its_jpeg():
    rgb = drift(1, size=(64, 90))[0]
    back = decode_rgb(encode_rgb(rgb))
    assert back.dtype == np.uint8
    assert cv2.PSNR(back, rgb) > 38


RUBBISH = [b"", b"\xff\xd8", b"not a picture", bytes(300)]


def test_bytes_that_are_no_jpeg_are_a_clear_error():
    good = encode_rgb(drift(1)[0])
    for rubbish in RUBBISH:
        bad = np.frombuffer(rubbish, np.uint8)
        for frames in ([bad], [bad, good], [good, bad], [good, bad, good]):
            with pytest.raises(ValueError, match="JPEG"):
                check(*frames, size=(36, 48))
        for decode in (decode_rgb, decode_flow) if rubbish else ():
            with pytest.raises(ValueError, match="frame"):
                decode(bad)


def test_a_jpeg_without_its_pixels_is_a_clear_error():
    jpeg = encode_rgb(drift(1)[0])
    headers = jpeg[: jpeg.tobytes().index(b"\xff\xda")]  # up to the marker that begins the scan
    with pytest.raises(ValueError, match="frame"):
        decode_rgb(headers)


def test_a_jpeg_of_another_size_than_was_promised_is_refused_wherever_it_stands():
    good = [encode_rgb(frame) for frame in drift(3)]
    check(*good, size=(36, 48))
    for place, size in enumerate([(36, 50), (48, 36), (72, 48)]):
        frames = [*good]
        frames[place] = encode_rgb(drift(1, size=size)[0])
        with pytest.raises(ValueError, match="48×36"):
            check(*frames, size=(36, 48))


def claiming(jpeg: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """The same JPEG with another size in its header (ITU T.81, B.2.2: SOF0, its length, the precision, Y, X)."""
    data = bytearray(jpeg.tobytes())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return np.frombuffer(bytes(data), np.uint8)


def test_a_jpeg_that_claims_gigabytes_is_refused_by_its_header():
    good = encode_rgb(drift(1)[0])
    bomb = claiming(good, height=60_000, width=60_000)
    for frames in ([bomb, good], [good, bomb]):
        with pytest.raises(ValueError, match="48×36"):
            check(*frames, size=(36, 48))


HIDING = {  # what a decoder steps over by another number of bytes than one who reads lengths, or takes for a header
    "arithmetic coding": b"",
    "a marker without a length": b"\xff\x01",
    "a restart marker": b"\xff\xd0",
    "fill bytes": b"\xff\xff",
    "lossless": b"",
}


def test_a_second_header_behind_the_first_hides_no_gigabytes():
    """The headers of a JPEG of 30,000 × 30,000 up to its scan, then one that tells the size that is expected."""
    good = encode_rgb(drift(1)[0]).tobytes()
    scan = good.index(b"\xff\xda")
    bomb = claiming(np.frombuffer(good, np.uint8), height=30_000, width=30_000).tobytes()
    for way in HIDING:
        with case(way):
            hidden = bomb[2 : scan + 14]  # with the scan's own header
            if way in ("arithmetic coding", "lossless"):
                hidden = hidden.replace(b"\xff\xc0", {"lossless": b"\xff\xc3"}.get(way, b"\xff\xc9"))
                jpeg = good[:2] + hidden + good[2:]
            else:
                jpeg = good[:2] + HIDING[way] + (2 + len(hidden)).to_bytes(2, "big") + hidden + good[2:]
            with pytest.raises(ValueError, match="JPEG"):
                check(np.frombuffer(jpeg, np.uint8), size=(36, 48))


def test_the_size_in_a_jpegs_header_is_that_of_its_picture():
    for colour in (cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE):
        for progressive in (0, 1):
            with case((colour, progressive)):
                for size in ((1, 1), (36, 48), (300, 7), (720, 1280)):
                    shape = size if colour == cv2.IMREAD_GRAYSCALE else (*size, 3)
                    how = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
                    jpeg = cv2.imencode(".jpg", np.zeros(shape, np.uint8), how)[1]
                    assert cv2.imdecode(jpeg, colour).shape[:2] == size
                    check(jpeg, size=size)


def test_a_damaged_jpeg_header_is_let_through_or_refused_with_a_line():
    """Any one byte of the headers changed to any of a few values: no other error, no endless loop."""
    jpeg = encode_rgb(drift(1)[0])
    for at in range(jpeg.tobytes().index(b"\xff\xda")):
        for value in (0, 1, 0x7F, 0xC0, 0xD8, 0xFF):
            damaged = jpeg.copy()
            damaged[at] = value
            with suppress(ValueError):
                check(damaged, size=(36, 48))
                image = cv2.imdecode(damaged, cv2.IMREAD_COLOR)
                assert image is None or image.shape == (36, 48, 3)
