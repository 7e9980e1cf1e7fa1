"""Who signed a bundle: keys, signatures, and what is refused before an engine library sees any of it."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edgevit.core.errors import BundleError, EdgevitError, MissingPackageError, OutputError
from edgevit.runtime import open_bundle, predictor
from edgevit.runtime.bundle import find_damage, load_bundle
from edgevit.runtime.pack_file import pack_file
from edgevit.runtime.sign import make_keys, sign_bundle
from edgevit.runtime.verify import examine_bundle
from tests.support.tiny_bundle import make_bundle


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("made")
    return make_bundle(base / "bundle", base / "work", target="intel-cpu").path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_keys(tmp_path_factory.mktemp("keys") / "vendor")


@pytest.fixture(params=["folder", "packed"])
def bundle(made: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = Path(shutil.copytree(made, tmp_path / "bundle"))
    return folder if request.param == "folder" else pack_file(folder)


def test_signed_bundle_opens_with_the_public_key_as_file_and_as_bytes(bundle: Path, keys: tuple[Path, Path]) -> None:
    private, public = keys
    signed = sign_bundle(bundle, private)
    for key in (public, str(public), public.read_bytes()):
        with open_bundle(bundle, public_key=key) as opened:
            assert opened.manifest.name == "tiny"
    with open_bundle(bundle) as opened:  # nobody has to ask
        assert opened.manifest.name == "tiny"
    found = examine_bundle(bundle, public)
    assert (found.signature, found.signed_by) == ("valid", signed.public_key)
    assert examine_bundle(bundle).signature == "not checked"
    assert find_damage(load_bundle(bundle)) == ()


@pytest.mark.parametrize("fault", ["unsigned", "other key", "altered"])
def test_refused_before_the_engine_library_is_asked(
    bundle: Path, keys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    said = {"unsigned": "is not signed", "other key": "signed with another key", "altered": "does not fit"}[fault]
    if fault == "other key":
        sign_bundle(bundle, make_keys(tmp_path / "other")[0])
    elif fault == "altered":
        sign_bundle(bundle, keys[0])
        name = b"tiny"
        file = bundle / "manifest.json" if bundle.is_dir() else bundle
        file.write_bytes(file.read_bytes().replace(name, b"tony", 1))
    for function in ("get_runtime", "open_engine", "verify_bundle"):
        monkeypatch.setattr(predictor, function, lambda *args, **kw: pytest.fail("it was asked"))
    with pytest.raises(BundleError, match=said) as caught:
        open_bundle(bundle, public_key=keys[1])
    assert caught.value.code == "signature"


def test_every_file_is_hashed_where_a_signature_is_asked_for(bundle: Path, keys: tuple[Path, Path]) -> None:
    sign_bundle(bundle, keys[0])
    weights = load_bundle(bundle).contents.read("model.bin")
    file = bundle / "model.bin" if bundle.is_dir() else bundle
    content = bytearray(file.read_bytes())
    content[content.index(weights) + 100] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.bin: SHA-256") as caught:
        open_bundle(bundle, verify=False, public_key=keys[1])
    assert caught.value.code == "damaged"


def test_signing_again_replaces_the_signature_and_signing_is_repeatable(
    bundle: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    first = sign_bundle(bundle, keys[0])
    assert sign_bundle(bundle, keys[0]) == first
    other = make_keys(tmp_path / "other")
    assert sign_bundle(bundle, other[0]).public_key != first.public_key
    assert examine_bundle(bundle, other[1]).signature == "valid"
    assert [f.name for f in tmp_path.rglob(".*")] == []


def test_damaged_bundle_is_not_signed(made: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "bundle"))
    (folder / "report.json").write_bytes(b"[]\n")
    with pytest.raises(BundleError, match=r"report\.json"):
        sign_bundle(folder, keys[0])
    assert not (folder / "signature.json").exists()


def test_signature_goes_into_the_packed_file_and_out_again(made: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "bundle"))
    sign_bundle(folder, keys[0])
    packed = pack_file(folder)
    assert examine_bundle(packed, keys[1]).signature == "valid"
    bare = pack_file(made, tmp_path / "bare.edgevit")
    sign_bundle(bare, keys[0])
    assert bare.read_bytes() == packed.read_bytes()


def test_signed_bundle_is_replaced_by_a_build(made: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "bundle"))
    sign_bundle(folder, keys[0])
    make_bundle(folder, tmp_path / "work")
    assert not (folder / "signature.json").exists()


def test_signature_is_over_the_documented_message(made: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    """Checked by openssl, which knows nothing of edgevit."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here")
    folder = Path(shutil.copytree(made, tmp_path / "bundle"))
    sign_bundle(folder, keys[0])
    data = json.loads((folder / "signature.json").read_bytes())
    assert data["algorithm"] == "ed25519"
    (tmp_path / "message").write_bytes(b"edgevit bundle v1\n" + (folder / "manifest.json").read_bytes())
    (tmp_path / "signature").write_bytes(bytes.fromhex(data["signature"]))
    command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", str(keys[1])]
    done = subprocess.run(
        [*command, "-in", str(tmp_path / "message"), "-sigfile", str(tmp_path / "signature")],
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr


def test_keys_of_openssl_sign_and_check(bundle: Path, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here")
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    sign_bundle(bundle, private)
    assert examine_bundle(bundle, public).signature == "valid"


def test_new_keys_are_private_differ_and_write_over_nothing(tmp_path: Path) -> None:
    private, public = make_keys(tmp_path / "a")
    assert (private.name, public.name) == ("a.private.pem", "a.public.pem")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert b"BEGIN PRIVATE KEY" in private.read_bytes()
    assert b"BEGIN PUBLIC KEY" in public.read_bytes()
    assert make_keys(tmp_path / "b")[0].read_bytes() != private.read_bytes()
    before = public.read_bytes()
    private.unlink()
    with pytest.raises(OutputError, match=r"a\.public\.pem would be written over") as caught:
        make_keys(tmp_path / "a")
    assert caught.value.code == "argument"
    assert public.read_bytes() == before
    assert not private.exists()
    with pytest.raises(OutputError, match="cannot be written"):
        make_keys(tmp_path / "no" / "folder")


@pytest.mark.parametrize(
    "content", [b"", b"no key", b"-----BEGIN PUBLIC KEY-----\n?\n-----END PUBLIC KEY-----\n", None]
)
def test_what_is_no_key_is_refused_as_the_callers_mistake(
    bundle: Path, keys: tuple[Path, Path], tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "key.pem"
    if content is not None:
        file.write_bytes(content)
    for ask in (lambda: open_bundle(bundle, public_key=file), lambda: sign_bundle(bundle, file)):
        with pytest.raises(EdgevitError, match=r"key\.pem") as caught:
            ask()
        assert caught.value.code == "argument"


def test_private_key_is_no_public_one_and_the_other_way_round(bundle: Path, keys: tuple[Path, Path]) -> None:
    with pytest.raises(EdgevitError, match="is a private key"):
        open_bundle(bundle, public_key=keys[0])
    with pytest.raises(EdgevitError, match="is no private key"):
        sign_bundle(bundle, keys[1])


def test_key_of_another_kind_is_refused(bundle: Path, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = generate_private_key(SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "k.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(EdgevitError, match="another kind than Ed25519"):
        open_bundle(bundle, public_key=public)
    with pytest.raises(EdgevitError, match="another kind than Ed25519"):
        sign_bundle(bundle, tmp_path / "k.pem")


def test_without_cryptography_bundles_open_and_a_signature_asks_for_it(
    bundle: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with open_bundle(bundle) as opened:
        assert opened.manifest.name == "tiny"
    with pytest.raises(MissingPackageError, match="cryptography") as caught:
        open_bundle(bundle, public_key=keys[1])
    assert "[signing]" in caught.value.hint
    assert caught.value.code == "library"
