#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What NumPy makes of our files, and we of NumPy's.

A checkpoint of three ranks is read by the rules of the safetensors format alone: names, shapes and
values. Arrays of every type that numpy.save writes are read by rdt_dataset. Usage: python.py BUILD_DIR
"""
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("there is no NumPy here: apt-get install python3-numpy")
    sys.exit(77)

tests = pathlib.Path(sys.argv[1]) / "tests"
DTYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U8": "u1"}


def no_duplicates(pairs):
    assert len({key for key, _ in pairs}) == len(pairs), "a key twice"
    return dict(pairs)


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    text = data[8 : 8 + length]
    assert length <= 100_000_000 and text[:1] == b"{" and len(text) == length
    header = json.loads(text.decode("utf-8"), object_pairs_hook=no_duplicates)
    metadata = header.pop("__metadata__", {})
    assert all(isinstance(k, str) and isinstance(v, str) for k, v in metadata.items())
    body, at, tensors = data[8 + length :], 0, {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        assert begin == at, f"a hole or an overlap before {name}"
        dtype = np.dtype(DTYPES[entry["dtype"]])
        assert (8 + length + begin) % dtype.itemsize == 0, f"{name} is not aligned"
        tensors[name] = np.frombuffer(body[begin:end], dtype).reshape(entry["shape"])
        at = end
    assert at == len(body), "bytes behind the data"
    return metadata, tensors


def check_checkpoint(folder):
    subprocess.run([tests / "train_checkpoint", "save", folder], check=True)
    metadata, tensors = read_safetensors(folder / "checkpoint-000000000017.safetensors")
    rows, columns = np.mgrid[0:7, 0:10]
    expected = {
        "rows": (rows * 100 + columns).astype("<f4"),
        "columns \u00e9": (rows * 1000 + columns).astype("<f4"),
        "large": np.arange(300007, dtype="<f4") / np.float32(3),
        "vector": 1 / np.arange(1, 12, dtype="<f8"),
        "single": np.array(-9007199254740993, dtype="<i8"),
        "empty": np.zeros((0, 3), dtype="u1"),
    }
    assert set(tensors) == set(expected), set(tensors)
    for name, value in expected.items():
        assert tensors[name].dtype == value.dtype and tensors[name].shape == value.shape, name
        assert np.array_equal(tensors[name], value), name
    assert metadata["rdtrain.step"] == "17" and metadata["rdtrain.seed"] == "5"
    assert metadata["rdtrain.position"] == str(2**64 - 1)
    print("checkpoint:", ", ".join(f"{n} {list(t.shape)} {t.dtype}" for n, t in tensors.items()))


def check_arrays(folder):
    count = 0
    for code in "f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1".split():
        for order in "<>":
            for shape in (5,), (3, 4), (2, 3, 4):
                values = np.arange(np.prod(shape)).reshape(shape) * 5 - (0 if code[0] in "ub" else 20)
                array = values.astype(order + code)
                version = (1 + count % 3, 0)
                path = folder / "array.npy"
                with open(path, "wb") as file:
                    np.lib.format.write_array(file, array, version=version)
                out = subprocess.run([tests / "train_dataset", "print", path], check=True,
                                     capture_output=True, text=True).stdout.split()
                assert out[0] == "npy" and int(out[1]) == shape[0], out[:3]
                assert np.array_equal(np.array(out[3:], float), array.astype(float).ravel()), (code, order)
                count += 1
    print(f"arrays: {count} files of numpy.save")


with tempfile.TemporaryDirectory() as name:
    check_checkpoint(pathlib.Path(name))
    check_arrays(pathlib.Path(name))
