import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from utils.pickles import Opaque, load_pickle


class Harmful:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_content_comes_back(protocol):
    content = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "n": np.float64(2.5),
        "t": ("x", [1, None, True], OrderedDict(k=b"bytes")),
        "s": {1, 2},
    }
    back = load_pickle(pickle.dumps(content, protocol), "x.pkl")
    np.testing.assert_array_equal(back["a"], content["a"])
    np.testing.assert_array_equal(back["f"], content["f"])
    assert back["a"].dtype == np.float32
    assert back["n"] == 2.5
    assert back["t"] == content["t"]
    assert back["s"] == {1, 2}


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch {}",)),
        (eval, ("open('{}', 'w')",)),
        (exec, ("open('{}', 'w')",)),
        (open, ("{}", "w")),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_is_refused_by_name_and_runs_nothing(tmp_path, function, arguments, protocol):
    target = tmp_path / "harm"
    harmful = Harmful(function, *(a.format(target) for a in arguments))
    content = pickle.dumps({"smpl_poses": harmful}, protocol)
    with pytest.raises(ValueError, match=rf"bad\.pkl is refused.*{function.__name__}"):
        load_pickle(content, "bad.pkl")
    with pytest.raises(ValueError, match=function.__name__):  # opaque packages open no other door
        load_pickle(content, "bad.pkl", opaque=("chumpy", "scipy"))
    assert not target.exists()
    pickle.loads(content)
    assert target.exists()  # it would have, with the plain reader


def test_an_opaque_object_is_not_imported_and_holds_its_state():
    content = b"\x80\x02cchumpy.ch\nCh\n)\x81}X\x01\x00\x00\x00xK\x05sb."
    back = load_pickle(content, "smpl.pkl", opaque=("chumpy",))
    assert isinstance(back, Opaque)
    assert (back.class_name, back.state) == ("chumpy.ch.Ch", {"x": 5})
    with pytest.raises(ValueError, match=r"chumpy\.ch\.Ch"):
        load_pickle(content, "smpl.pkl")


@pytest.mark.parametrize(
    "content",
    [b"", b"not a pickle", pickle.dumps(np.zeros(100))[:-60], b"\x80\x04.", b"\x80\x04]K\x01a", b"\x00" * 50],
)
def test_damaged_content_is_one_clear_error(content):
    with pytest.raises(ValueError, match=r"x\.pkl is (empty|refused|damaged)"):
        load_pickle(content, "x.pkl")


def test_a_promise_of_a_huge_array_takes_no_memory():
    content = pickle.dumps(np.zeros(3), 2)
    assert b"K\x00\x85" in content  # the shape given to _reconstruct, (0,)
    huge = content.replace(b"K\x00\x85", b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85", 1)  # (2 ** 40,)
    np.testing.assert_array_equal(load_pickle(huge, "x.pkl"), np.zeros(3))
