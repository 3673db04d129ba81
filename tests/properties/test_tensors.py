"""Whatever goes over a wire comes back the same."""

import hypothesis.extra.numpy as hnp
import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st

from app.domain.tensor import Datatype, TensorSpec
from app.protocol.raw_tensors import from_raw, to_raw
from app.protocol.tensors import bytes_array, dtype_of, from_json, to_json

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
NUMERIC = [datatype for datatype in Datatype if datatype not in (Datatype.BYTES, Datatype.BF16)]


@st.composite
def numeric_tensors(draw, finite=False):
    datatype = draw(st.sampled_from(NUMERIC))
    elements = {"allow_nan": False, "allow_infinity": False} if finite and datatype.startswith("FP") else None
    return datatype, draw(hnp.arrays(dtype_of(datatype), SHAPES, elements=elements))


@st.composite
def bytes_tensors(draw):
    shape = draw(SHAPES)
    count = int(np.prod(shape))
    return bytes_array(draw(st.lists(st.binary(max_size=9), min_size=count, max_size=count)), shape)


def spec_of(datatype, array):
    return TensorSpec("x", datatype, (-1,) * array.ndim)


@given(numeric_tensors())
def test_raw_numbers_come_back(tensor):
    datatype, array = tensor
    back = from_raw(spec_of(datatype, array), datatype.value, list(array.shape), to_raw(datatype, array))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@given(numeric_tensors(finite=True), st.booleans())
def test_finite_numbers_survive_json_flat_and_nested(tensor, nested):
    datatype, array = tensor
    sent = array.tolist() if nested and array.ndim else to_json(datatype, array)
    data = orjson.loads(orjson.dumps(sent, option=orjson.OPT_SERIALIZE_NUMPY))
    back = from_json(spec_of(datatype, array), datatype.value, list(array.shape), data)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@given(bytes_tensors())
def test_raw_bytes_come_back(array):
    back = from_raw(spec_of(Datatype.BYTES, array), "BYTES", list(array.shape), to_raw(Datatype.BYTES, array))
    assert back.shape == array.shape
    assert back.reshape(-1).tolist() == array.reshape(-1).tolist()


@given(st.lists(st.text(max_size=9), max_size=5))
def test_text_survives_json(texts):
    spec = TensorSpec("text", Datatype.BYTES, (-1,))
    array = from_json(spec, "BYTES", [len(texts)], orjson.loads(orjson.dumps(texts)))
    assert to_json(Datatype.BYTES, array) == texts


@given(hnp.arrays(np.dtype("<u2"), hnp.array_shapes(max_dims=2)))
def test_every_bf16_pattern_that_is_a_number_comes_back(halves):
    spec = TensorSpec("x", Datatype.BF16, (-1,) * halves.ndim)
    array = from_raw(spec, "BF16", list(halves.shape), halves.tobytes())
    back = np.frombuffer(to_raw(Datatype.BF16, array), "<u2").reshape(halves.shape)
    np.testing.assert_array_equal(back[~np.isnan(array)], halves[~np.isnan(array)])
    assert np.isnan(from_raw(spec, "BF16", list(halves.shape), back.tobytes())[np.isnan(array)]).all()
