"""Every attack as a folder or a file, made from two tiny bundles: python -m tests.attacks.make DIR.

``DIR/answers.json`` then has for every name ``path`` (below DIR), ``code`` (``opens``: it has to open) and, where they
are to be given, ``public_key`` (a file of DIR) and ``check``. Each attack differs from a sound bundle in one thing, and
its digests and hashes fit, so that nothing else refuses it. The codes are in ``answers.json`` beside this file.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.attacks.documents import SEED, Data, change_copy, dump, read, sign
from tests.attacks.folders import FOLDERS, ONNX_FOLDERS, SIGNED
from tests.attacks.manifests import MANIFESTS, RAW
from tests.attacks.packs import ZIPS
from tests.attacks.zips import Entry, write_zip
from tests.support.tiny_bundle import make_bundle

ANSWERS: dict[str, str] = json.loads((Path(__file__).parent / "answers.json").read_text())
PUBLIC_KEY = "trusted.public.pem"


def make_attacks(out: Path) -> dict[str, Data]:
    """Write all of them into a new folder, and say how each is opened and answered; see the module's first lines."""
    openvino = make_bundle(out / "openvino", out / "work", target="intel-cpu", canary=True).path
    onnx_folder = make_bundle(out / "onnx", out / "work-onnx", canary=True).path
    shutil.rmtree(out / "work")
    shutil.rmtree(out / "work-onnx")
    made: dict[str, Data] = {"openvino": {}, "onnx": {}}

    def copy_to(name: str, source: Path = openvino, **options: str) -> Path:
        made[name] = options
        return Path(shutil.copytree(source, out / name))

    for name, change in MANIFESTS.items():
        folder = copy_to(name)
        (folder / "manifest.json").write_bytes(dump(change_copy(read(folder), change)))
    for name, replace in RAW.items():
        folder = copy_to(name)
        (folder / "manifest.json").write_bytes(replace(dump(read(folder))))
    for name, work in FOLDERS.items():
        options: dict[str, str] = {"check": "always"} if name.startswith("canary-") else {}
        work(copy_to(name, openvino, **options))
    for name, work in ONNX_FOLDERS.items():
        work(copy_to(name, onnx_folder))
    names = ["manifest.json", *sorted(read(openvino)["files"])]
    entries = [Entry(name.encode(), (openvino / name).read_bytes()) for name in names]
    for name, write in {"packed": write_zip, **ZIPS}.items():
        made[name] = {"path": f"{name}.edgevit"}
        (out / f"{name}.edgevit").write_bytes(write(entries))
    key = Ed25519PrivateKey.from_private_bytes(SEED).public_key()
    (out / PUBLIC_KEY).write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    signature = json.dumps(sign((openvino / "manifest.json").read_bytes())).encode()
    for name, work in {"signed": lambda folder: None, **SIGNED}.items():
        folder = copy_to(name, public_key=PUBLIC_KEY)
        (folder / "signature.json").write_bytes(signature)
        work(folder)
    for name, more in {"packed-signed": [Entry(b"signature.json", signature)], "packed-unsigned": []}.items():
        made[name] = {"path": f"{name}.edgevit", "public_key": PUBLIC_KEY}
        (out / f"{name}.edgevit").write_bytes(write_zip([*entries, *more]))
    made["path-that-is-not-there"] = {}
    answers = {name: {"path": name, "code": ANSWERS[name], **options} for name, options in made.items()}
    (out / "answers.json").write_text(json.dumps(answers, indent=1) + "\n")
    return answers


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    print(f"{len(make_attacks(folder))} bundles, and answers.json")
