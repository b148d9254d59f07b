"""The other side of the cross-check with python-tuf; see python_tuf.rs.

python_tuf.py client METADATA_URL TARGETS_URL ROOT DIR TARGET
    updates with python-tuf's client, downloads TARGET into DIR and prints its path
python_tuf.py author DIR
    writes a repository made and signed by python-tuf into DIR: two rotated roots, two signatures
    on root and targets, two delegated roles
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
    from tuf.api.metadata import (
        DelegatedRole,
        Delegations,
        MetaFile,
        Metadata,
        Root,
        Snapshot,
        TargetFile,
        Targets,
        Timestamp,
    )
    from tuf.api.serialization.json import JSONSerializer

    expires = datetime(2040, 1, 1, tzinfo=timezone.utc)
    out = Path(folder, "metadata")
    out.mkdir()
    signers = {role: CryptoSigner.generate_ed25519() for role in ("root", "timestamp", "snapshot", "targets")}
    second_root = CryptoSigner.generate_ed25519()
    second_targets = CryptoSigner.generate_ed25519()
    new_timestamp = CryptoSigner.generate_ed25519()
    team = CryptoSigner.generate_ed25519()
    deeper = CryptoSigner.generate_ed25519()

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
    root.add_key(second_targets.public_key, "targets")
    root.roles["targets"].threshold = 2
    write("2.root.json", Metadata(root), signers["root"], second_root)
    root.version = 3
    root.revoke_key(signers["timestamp"].public_key.keyid, "timestamp")
    root.add_key(new_timestamp.public_key, "timestamp")
    write("3.root.json", Metadata(root), signers["root"], second_root)

    def delegate(to, signer, paths):
        role = DelegatedRole(to, [signer.public_key.keyid], 1, True, paths)
        return Delegations({signer.public_key.keyid: signer.public_key}, {to: role})

    def offer(targets, name, content):
        target = TargetFile.from_data(name, content, ["sha256", "sha512"])
        targets.targets[name] = target
        at = Path(folder, "targets", name)
        at.parent.mkdir(parents=True, exist_ok=True)
        at.with_name(f"{target.hashes['sha256']}.{at.name}").write_bytes(content)
        return target

    below = Targets(expires=expires)
    offer(below, "team/deep/notes", b"from further down")
    write("1.team%2Fdeep.json", Metadata(below), deeper)
    middle = Targets(expires=expires, delegations=delegate("team/deep", deeper, ["team/deep/*"]))
    offer(middle, "team/notes", b"from the team")
    write("1.team.json", Metadata(middle), team)

    targets = Targets(
        expires=expires, delegations=delegate("team", team, ["team/*", "team/deep/*"])
    )
    target = offer(targets, "demo.update", b"an update")
    target.unrecognized_fields["custom"] = {
        "ferrite": {
            "board": "qemu-arm64",
            "name": "demo",
            "version": "1.0.0 \u2013 \"quoted\" \\ \u00e9",
            "sequence": 7,
            "header_sha256": "00" * 32,
        }
    }
    write("1.targets.json", Metadata(targets), signers["targets"], second_targets)
    snapshot = Snapshot(expires=expires)
    for name in ("team", "team/deep"):
        snapshot.meta[f"{name}.json"] = MetaFile(1)
    write("1.snapshot.json", Metadata(snapshot), signers["snapshot"])
    timestamp = Timestamp(expires=expires)
    timestamp.snapshot_meta = MetaFile.from_data(1, (out / "1.snapshot.json").read_bytes(), ["sha256"])
    write("timestamp.json", Metadata(timestamp), new_timestamp)


if __name__ == "__main__":
    {"client": client, "author": author}[sys.argv[1]](*sys.argv[2:])
