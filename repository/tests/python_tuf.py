"""The other side of the cross-check with python-tuf; see python_tuf.rs.

python_tuf.py client METADATA_URL TARGETS_URL ROOT DIR TARGET
    updates with python-tuf's client, downloads TARGET into DIR and prints its path
python_tuf.py author DIR
    writes a repository made and signed by python-tuf into DIR/metadata, with a rotated root
"""

import sys
from datetime import datetime, timezone
from pathlib import Path


def client(metadata_url, targets_url, root, folder, target):
    from tuf.api.metadata import Metadata
    from tuf.ngclient import Updater, UpdaterConfig

    Path(folder, "trusted").mkdir()
    updater = Updater(
        metadata_dir=str(Path(folder, "trusted")),
        metadata_base_url=metadata_url,
        target_dir=folder,
        target_base_url=targets_url,
        config=UpdaterConfig(prefix_targets_with_hash=True),
        bootstrap=Path(root).read_bytes(),
    )
    updater.refresh()
    info = updater.get_targetinfo(target)
    assert info is not None, f"{target} is not offered"
    timestamp = Metadata.from_file(str(Path(folder, "trusted", "timestamp.json"))).signed
    assert "signed_at" in timestamp.unrecognized_fields, "our own field did not pass"
    print(updater.download_target(info, str(Path(folder, "downloaded"))))


def author(folder):
    from securesystemslib.signer import CryptoSigner
    from tuf.api.metadata import MetaFile, Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
    from tuf.api.serialization.json import JSONSerializer

    expires = datetime(2040, 1, 1, tzinfo=timezone.utc)
    out = Path(folder, "metadata")
    out.mkdir()
    signers = {role: CryptoSigner.generate_ed25519() for role in ("root", "timestamp", "snapshot", "targets")}
    second_root = CryptoSigner.generate_ed25519()

    def write(name, metadata, *by):
        for signer in by:
            metadata.sign(signer, append=True)
        metadata.to_file(str(out / name), JSONSerializer(compact=False))

    root = Root(expires=expires, consistent_snapshot=True)
    for role, signer in signers.items():
        root.add_key(signer.public_key, role)
    write("1.root.json", Metadata(root), signers["root"])
    root.version = 2
    root.add_key(second_root.public_key, "root")
    root.roles["root"].threshold = 2
    write("2.root.json", Metadata(root), signers["root"], second_root)

    targets = Targets(expires=expires)
    target = TargetFile.from_data("demo.update", b"an update", ["sha256", "sha512"])
    target.unrecognized_fields["custom"] = {
        "ferrite": {
            "board": "qemu-arm64",
            "name": "demo",
            "version": "1.0.0 \u2013 \"quoted\" \\ \u00e9",
            "sequence": 7,
            "header_sha256": "00" * 32,
        }
    }
    targets.targets["demo.update"] = target
    write("1.targets.json", Metadata(targets), signers["targets"])
    snapshot = Snapshot(expires=expires)
    write("1.snapshot.json", Metadata(snapshot), signers["snapshot"])
    timestamp = Timestamp(expires=expires)
    timestamp.snapshot_meta = MetaFile.from_data(1, (out / "1.snapshot.json").read_bytes(), ["sha256"])
    write("timestamp.json", Metadata(timestamp), signers["timestamp"])


if __name__ == "__main__":
    {"client": client, "author": author}[sys.argv[1]](*sys.argv[2:])
