//! TLS, client certificates, tokens and proxies, against a local server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::certificates::{Authority, Issued, tls};
use crate::support::wire::Wire;
use crate::support::{Repository, TestDevice, publish, recipe, role_key};
use formats::Slot;
use formats::network_time::NetworkTime;
use tuf::author::{Dates, RoleSigners, new_root};
use tuf::{Envelope, Time};

const PAST: (&str, &str) = ("20100101000000Z", "20110101000000Z");
const PRESENT: (&str, &str) = ("20200101000000Z", "21200101000000Z");
const FUTURE: (&str, &str) = ("21000101000000Z", "21200101000000Z");

struct World {
    device: TestDevice,
    server: Wire,
    authority: Authority,
}

fn issue(authority: &Authority, name: &str, (from, to): (&str, &str)) -> Issued {
    authority.issue(name, from, to)
}

/// A device that trusts an authority, and a server with a certificate of it.
fn world(validity: (&str, &str), clients: Option<&Authority>) -> World {
    let authority = Authority::new();
    let device = TestDevice::new();
    let update = recipe(2).build();
    let files = publish(&[(&update, update.bytes.len() as u64)]);
    device.put("etc/ferrite/tuf-root.json", &files["metadata/1.root.json"]);
    device.put("etc/ferrite/tls-roots.pem", authority.root());
    let server = Wire::over(files, tls(&issue(&authority, "server", validity), clients));
    World { device, server, authority }
}

fn secret(device: &TestDevice, name: &str, text: impl AsRef<[u8]>) {
    device.put(&format!("data/{name}"), text);
    let mode = PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(device.path(&format!("data/{name}")), mode).unwrap();
}

fn installs(world: &World) {
    assert_eq!(world.device.update_from(&world.server.https()), Ok(true));
    assert!(world.device.holds(Slot::B, &recipe(2).build()));
}

fn error(world: &World) -> String {
    let before = world.device.medium();
    let error = world.device.update_from(&world.server.https()).unwrap_err().to_string();
    assert!(world.device.medium() == before);
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
#[ignore = "needs openssl: `just unit`"]
fn an_update_comes_over_tls() {
    installs(&world(PRESENT, None));
}

#[test]
#[ignore = "needs openssl: `just unit`"]
fn a_server_of_another_root_is_refused() {
    let world = world(PRESENT, None);
    for name in ["root", "other"] {
        world.device.put("etc/ferrite/tls-roots.pem", Authority::named(name).root());
        let error = error(&world);
        assert!(error.contains("not of a root in this image"), "{error}");
    }
    assert!(world.server.take_heads().is_empty(), "it was asked something");
}

#[test]
#[ignore = "needs openssl: `just unit`"]
fn an_image_without_roots_or_with_broken_ones_says_so() {
    let world = world(PRESENT, None);
    std::fs::remove_file(world.device.handle.tls_roots()).unwrap();
    let text = error(&world);
    assert!(text.contains("no roots for TLS") && text.contains("[update.tls]"), "{text}");
    for (bad, word) in [("", "hold no certificate"), ("-----BEGIN CERTIFICATE-----\nx\n", "PEM")] {
        world.device.put("etc/ferrite/tls-roots.pem", bad);
        let text = error(&world);
        assert!(text.contains(word), "{text}");
    }
}

#[test]
#[ignore = "needs openssl: `just unit`"]
fn an_expired_certificate_locks_out_no_device_that_cannot_be_sure_of_the_time() {
    installs(&world(PAST, None));
}

#[test]
#[ignore = "needs openssl: `just unit`"]
fn a_certificate_that_has_expired_for_sure_is_refused() {
    let world = world(PAST, None);
    let said = NetworkTime { unix: ota::clock::now(), boot_ms: 0 };
    world.device.put("run/ferrite/network-time", said.to_text());
    let text = error(&world);
    assert!(text.contains("certificate has expired"), "{text}");
    std::fs::remove_file(world.device.handle.network_time()).unwrap();
    // What the repository's keys say of the time expires no certificate.
    ota::state::State::change(&world.device.handle, |state| {
        state.signed_at = Some(1_600_000_000);
    })
    .unwrap();
    installs(&world);
}

#[test]
#[ignore = "needs openssl: `just unit`"]
fn a_certificate_of_the_future_is_taken() {
    installs(&world(FUTURE, None));
}

#[test]
#[ignore = "needs openssl: `just unit`"]
fn a_server_that_wants_to_know_its_devices_is_shown_the_certificate() {
    let clients = Authority::new();
    let world = world(PRESENT, Some(&clients));
    let text = error(&world);
    assert!(text.contains("does not take this device's certificate"), "{text}");
    let strange = issue(&world.authority, "device", PRESENT);
    for (name, path) in [("client.pem", strange.certificate), ("client.key", strange.key)] {
        secret(&world.device, name, std::fs::read(path).unwrap());
    }
    let text = error(&world);
    assert!(text.contains("does not take this device's certificate"), "{text}");
    let own = issue(&clients, "device", PRESENT);
    secret(&world.device, "client.pem", std::fs::read(own.certificate).unwrap());
    let text = error(&world);
    assert!(text.contains("client.pem and client.key"), "a key of another: {text}");
    secret(&world.device, "client.key", std::fs::read(own.key).unwrap());
    installs(&world);
}

#[test]
#[ignore = "needs openssl: `just unit`"]
fn a_token_goes_to_the_repository_over_tls_and_stays_out_of_every_error() {
    let world = world(PRESENT, None);
    world.server.edit(|shared| shared.token = Some("right".into()));
    let text = error(&world);
    assert!(text.contains("401"), "{text}");
    secret(&world.device, "token", "wr0ng\n");
    let text = error(&world);
    assert!(text.contains("401") && !text.contains("wr0ng"), "{text}");
    secret(&world.device, "token", "right\n");
    installs(&world);
    let heads = world.server.take_heads();
    assert!(heads.iter().any(|head| head.contains("GET /targets/")), "{heads:?}");
}

/// Another server with the same files, and a certificate of the same root.
fn elsewhere(authority: &Authority) -> Wire {
    let update = recipe(2).build();
    let files = publish(&[(&update, update.bytes.len() as u64)]);
    Wire::over(files, tls(&issue(authority, "elsewhere", PRESENT), None))
}

/// The repository's server redirects whoever asks for the update; gives its path.
fn move_update(world: &World, to: &str) -> String {
    world.server.edit(|shared| {
        let path = shared.files.keys().find(|path| path.starts_with("targets/")).unwrap().clone();
        shared.moved.insert(path.clone(), format!("{to}{path}"));
        path
    })
}

#[test]
#[ignore = "needs openssl: `just unit`"]
fn a_redirection_from_https_to_http_is_not_followed() {
    let world = world(PRESENT, None);
    let update = recipe(2).build();
    let elsewhere = Wire::start(publish(&[(&update, update.bytes.len() as u64)]));
    move_update(&world, &format!("{}/", elsewhere.url()));
    let text = error(&world);
    assert!(text.contains("from https to http"), "{text}");
    assert!(elsewhere.take_heads().is_empty(), "it was asked");
}

#[test]
#[ignore = "needs openssl: `just unit`"]
fn a_redirection_in_a_circle_ends() {
    let world = world(PRESENT, None);
    let path = move_update(&world, "/");
    world.server.edit(|shared| shared.moved.insert(path.clone(), format!("/{path}")));
    let text = error(&world);
    assert!(text.contains("redirects more than"), "{text}");
}

#[test]
#[ignore = "needs openssl: `just unit`"]
fn a_redirection_to_another_host_does_not_take_the_token_along() {
    let world = world(PRESENT, None);
    let elsewhere = elsewhere(&world.authority);
    move_update(&world, &format!("{}/", elsewhere.https()));
    secret(&world.device, "token", "secret\n");
    installs(&world);
    let heads = elsewhere.take_heads();
    assert!(!heads.is_empty() && heads.iter().all(|h| !h.contains("secret")), "{heads:?}");
    let heads = world.server.take_heads();
    assert!(heads.iter().all(|head| head.contains("Bearer secret")), "{heads:?}");
}

/// A proxy that tunnels, and counts.
fn proxy(password: Option<&'static str>) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut head = String::new();
            let mut input = BufReader::new(client.try_clone().unwrap());
            while !head.ends_with("\r\n\r\n") && input.read_line(&mut head).unwrap_or(0) > 0 {}
            let target = head.split(' ').nth(1).unwrap_or("").to_string();
            let allowed = password.is_none_or(|password| head.contains(password));
            let mut client = client;
            if !head.starts_with("CONNECT ") || !allowed {
                let _ = client.write_all(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
            counted.fetch_add(1, Ordering::SeqCst);
            let Ok(server) = TcpStream::connect(target) else { continue };
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            for (mut from, mut to) in
                [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
            {
                std::thread::spawn(move || {
                    let mut buffer = [0; 8192];
                    while let Ok(n @ 1..) = from.read(&mut buffer) {
                        if to.write_all(&buffer[..n]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    });
    (address, count)
}

#[test]
#[ignore = "needs openssl: `just unit`"]
fn tls_goes_through_a_proxy_that_sees_no_request() {
    let world = world(PRESENT, None);
    // "u:pass" in Base64.
    let (address, count) = proxy(Some("Basic dTpwYXNz"));
    world.device.extra_settings(&format!(r#""proxy": "http://u:pass@{address}""#));
    installs(&world);
    assert!(count.load(Ordering::SeqCst) > 0);
    world.device.extra_settings(&format!(r#""proxy": "http://u:wrong@{address}""#));
    world.server.take_heads();
    let text = world.device.update_from(&world.server.https()).unwrap_err().to_string();
    assert!(!text.contains("wrong"), "{text}");
    assert!(world.server.take_heads().is_empty(), "went around the proxy");
}

#[test]
#[ignore = "needs openssl: `just unit`"]
fn a_tls_record_that_comes_byte_by_byte_is_given_up() {
    for after in [0, 1500, 4000] {
        let world = world(PRESENT, None);
        // Between the device and the server, all that is behind so many bytes becomes slow.
        let server = format!("127.0.0.1:{}", world.server.port);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(&server).unwrap();
                let mut up = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut up.0, &mut up.1));
                std::thread::spawn(move || slowly(server, client, after));
            }
        });
        let begun = std::time::Instant::now();
        let text = world.device.update_from(&url).unwrap_err().to_string();
        assert!(begun.elapsed().as_secs() < 12, "{after}: {:?}: {text}", begun.elapsed());
    }
}

fn slowly(mut from: TcpStream, mut to: TcpStream, after: usize) {
    let (mut passed, mut byte) = (0, [0]);
    while let Ok(1) = from.read(&mut byte) {
        if to.write_all(&byte).is_err() {
            return;
        }
        passed += 1;
        if passed > after {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

const DAY: u64 = 86_400;

/// A device and its repository behind TLS, whose certificate is good for another 89 days.
fn yearly(repository: &Repository) -> World {
    let stamp = |at: u64| Time(at).to_string().replace(['-', ':', 'T'], "");
    let now = ota::clock::now();
    let world = world((&stamp(now - DAY), &stamp(now + 89 * DAY)), None);
    world.device.put("etc/ferrite/tuf-root.json", &repository.root);
    world
}

fn serve(world: &World, repository: &Repository) {
    world.server.edit(|shared| shared.files = repository.files.clone());
}

/// Signs at a time; good for so many days from then on, as a timer does it.
fn dated(repository: &mut Repository, at: u64, days: u64) {
    let end = Time(at).plus_days(days);
    repository.dates = Dates { signed_at: Time(at), targets: end, snapshot: end, timestamp: end };
}

#[test]
#[ignore = "needs openssl: `just unit`"]
fn a_publication_from_a_pc_whose_clock_is_ahead_locks_nobody_out() {
    let now = ota::clock::now();
    for ahead in [100 * DAY, 300 * DAY, 30 * 366 * DAY] {
        let mut repository = Repository::new();
        let world = yearly(&repository);
        dated(&mut repository, now + ahead, 30);
        repository.publish(&[&recipe(1).build()]);
        serve(&world, &repository);
        assert_eq!(world.device.update_from(&world.server.https()), Ok(false));
        // Its owner sets the clock and publishes the next version.
        dated(&mut repository, now, 30);
        repository.publish(&[&recipe(2).build()]);
        serve(&world, &repository);
        installs(&world);
    }
}

#[test]
#[ignore = "needs openssl: `just unit`"]
fn a_timestamp_key_that_was_stolen_to_lock_devices_out_is_rotated_over_https() {
    let now = ota::clock::now();
    for ahead in [300 * DAY, 30 * 366 * DAY] {
        let mut repository = Repository::new();
        let world = yearly(&repository);
        dated(&mut repository, now, 30);
        repository.publish(&[&recipe(1).build()]);
        serve(&world, &repository);
        assert_eq!(world.device.update_from(&world.server.https()), Ok(false));
        // The thief says that it is late, in a version that the owner cannot go beyond.
        let mut thief = repository.files.clone();
        let bytes = thief.get_mut("metadata/timestamp.json").unwrap();
        let mut file: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        let signed = &mut file["signed"];
        signed["version"] = u64::from(u32::MAX).into();
        signed["signed_at"] = Time(now + ahead).to_string().into();
        signed["expires"] = Time(now + ahead + DAY).to_string().into();
        *bytes = Envelope::sign(signed, &[&role_key(4)]).unwrap().to_bytes();
        world.server.edit(|shared| shared.files = thief);
        let _ = world.device.update_from(&world.server.https());
        repository.publish(&[&recipe(2).build()]);
        serve(&world, &repository);
        assert!(error(&world).contains("is older than"));
        // A new root takes the key away; nobody has to go to the device.
        let signers = RoleSigners { timestamp: role_key(14), ..crate::support::role_signers() };
        let root = new_root(&signers.public_keys(), 2, Time(4_000_000_000)).unwrap();
        let bytes = Envelope::sign(&root, &[&signers.root]).unwrap().to_bytes();
        repository.files.insert("metadata/2.root.json".into(), bytes);
        repository.signers = signers;
        repository.before.as_mut().unwrap().root = root;
        repository.publish(&[&recipe(2).build()]);
        // Until its timestamp is there, what the key said is forgotten all the same.
        let timestamp = repository.files.remove("metadata/timestamp.json").unwrap();
        serve(&world, &repository);
        let _ = world.device.update_from(&world.server.https());
        assert_eq!(world.device.state().signed_at, None);
        repository.files.insert("metadata/timestamp.json".into(), timestamp);
        serve(&world, &repository);
        installs(&world);
    }
}
