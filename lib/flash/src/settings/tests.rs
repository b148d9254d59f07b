use super::*;

/// Reads settings that are said as `imager flash` has its options.
fn collect(words: &[&str]) -> Result<Option<DataFiles>> {
    let mut settings = Settings::default();
    for pair in words.chunks(2) {
        let value = pair[1].to_owned();
        match pair[0] {
            "--hostname" => settings.hostname = Some(value),
            "--timezone" => settings.timezone = Some(value),
            "--wifi" => settings.wifi = Some(value),
            "--wifi-passphrase-file" => settings.wifi_passphrase_file = Some(value.into()),
            "--ssh-key" => settings.ssh_keys.push(value.into()),
            "--token" => settings.token = Some(value.into()),
            "--file" => settings.files.push(value),
            other => panic!("no setting is {other}"),
        }
    }
    settings.read(|ssid| bail!("the passphrase of {ssid} cannot be asked for here"))
}

#[track_caller]
fn refused(words: &[&str], expected: &str) {
    let error = format!("{:#}", collect(words).err().expect("it has to be refused"));
    assert!(error.contains(expected), "no {expected:?} in: {error}");
}

#[test]
fn each_setting_lands_where_its_reader_looks() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (token, pass) = (file("t", "s3cret\n"), file("p", "correct horse\n"));
    let sent = format!("{}:face/certs/ca.pem", file("ca.pem", "CERT"));
    let settings = collect(&[
        "--hostname",
        "kitchen-1",
        "--token",
        &token,
        "--wifi",
        "My net",
        "--wifi-passphrase-file",
        &pass,
        "--file",
        &sent,
    ]);
    let tree = settings.unwrap().unwrap().tree;
    let text = |path: &str| match &tree.get(path).unwrap().kind {
        Kind::File(content) => String::from_utf8(content.bytes().to_vec()).unwrap(),
        _ => panic!("{path} is no file"),
    };
    let expected = "ferrite-settings 1\nhostname kitchen-1\nwifi My net\nfile face/certs/ca.pem\n";
    assert_eq!(text("ferrite/settings"), expected);
    assert_eq!(text("ferrite/secrets/wifi-passphrase"), "correct horse");
    assert_eq!(text("workloads/ota/token"), "s3cret");
    assert_eq!(text("workloads/face/certs/ca.pem"), "CERT");
    let modes = |path: &str| tree.get(path).map(|node| (node.mode, node.uid)).unwrap();
    assert_eq!(modes("ferrite/secrets"), (0o700, 0));
    assert_eq!(modes("ferrite/secrets/wifi-passphrase"), (0o600, 0));
    // What `init` makes for a workload, and what `ota` asks of its token.
    assert_eq!(modes("workloads"), (0o711, 0));
    assert_eq!(modes("workloads/ota"), (0o700, user_id("ota")));
    assert_eq!(modes("workloads/ota/token"), (0o600, user_id("ota")));
    assert_eq!(modes("workloads/face/certs"), (0o700, user_id("face")));
    assert!(collect(&[]).unwrap().is_none());
}

#[test]
fn what_is_wrong_is_said_with_the_option_and_never_with_the_secret() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    refused(&["--hostname", "a b"], "--hostname a b");
    refused(&["--hostname", "kitchen.example"], "--hostname");
    refused(&["--timezone", "Mars/Olympus"], "--timezone Mars/Olympus");
    refused(&["--wifi", &"x".repeat(33)], "--wifi");
    let (good, short) = (file("good", "secret-enough\n"), file("short", "secret"));
    refused(&["--wifi", "a\tb", "--wifi-passphrase-file", &good], "--wifi");
    let umlaut = file("umlaut", "geheimnüsse");
    for path in [&short, &umlaut, &file("two", "secret-one\nsecret-two\n"), &file("empty", "")] {
        let words = ["--wifi", "n", "--wifi-passphrase-file", path];
        let error = format!("{:#}", collect(&words).err().unwrap());
        assert!(error.contains(path.as_str()) && !error.contains("geheim"), "{error}");
        let rest = error.replace(path.as_str(), "");
        assert!(!rest.contains("secret"), "{error}");
    }
    refused(&["--token", &file("spaces", "a b")], "not a token");
    refused(&["--token", "/nowhere"], "/nowhere");
    refused(&["--ssh-key", &good], "not one public key");
    let source = |target: &str| format!("{good}:{target}");
    for target in ["face", "face/", "Face/x", "face/../ota/token", "face/./x", "face//x", "/x"] {
        refused(&["--file", &source(target)], "--file");
    }
    refused(&["--file", "/nowhere:face/x"], "/nowhere");
    refused(&["--file", "face"], "SRC:DST");
    refused(&["--file", &source("a/x"), "--file", &source("a/x")], "twice");
    refused(&["--token", &good, "--file", &source("ota/token")], "twice");
}
