//! Servers that answer 404, 500, nothing, garbage, endless data or a byte now and then: one clear
//! error each, in bounded time, and nothing touched.

mod support;

use std::time::{Duration, Instant};

use support::{publish, recipe, Device, Fault, Server};

fn faults() -> Vec<(Fault, &'static str)> {
    vec![
        (Fault::Status(404), "no such file"),
        (Fault::Status(500), "the server answered 500"),
        (Fault::Status(403), "the server answered 403"),
        (Fault::Silent, "no answer within"),
        (Fault::Garbage, "not HTTP"),
    ]
}

/// Runs `work` and gives its error, which has to be one line and to come soon.
fn error_of<T: std::fmt::Debug>(work: impl FnOnce() -> Result<T, ota::Error>) -> String {
    let begun = Instant::now();
    let error = work().expect_err("worked").to_string();
    assert!(begun.elapsed() < Duration::from_secs(20), "took {:?}: {error}", begun.elapsed());
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn metadata() {
    let update = recipe(2).build();
    let mut faults = faults();
    faults.push((Fault::Endless, "longer than its limit"));
    faults.push((Fault::Trickle, "the server sends less than"));
    faults.push((Fault::Alter(300), "timestamp.json"));
    for (fault, text) in faults {
        let device = Device::new();
        let files = publish(&[(&update, update.bytes.len() as u64)]);
        device.put("etc/ferrite/tuf-root.json", &files["metadata/1.root.json"]);
        let server = Server::start(files);
        server.fault("timestamp.json", fault.clone());
        let before = device.medium();
        let error = error_of(|| device.update_from(&server.url));
        assert!(error.contains(text) && error.contains("timestamp.json"), "{fault:?}: {error}");
        assert!(device.medium() == before);
        assert_eq!(device.state().last_error, Some(error));
    }
}

#[test]
fn the_update_itself() {
    let update = recipe(2).build();
    let mut faults = faults();
    faults.push((Fault::Endless, "no slot header"));
    faults.push((Fault::Trickle, "the server sends less than"));
    faults.push((Fault::WrongRange, "another part of the file"));
    faults.push((Fault::BadChunks, "attempts"));
    for (fault, text) in faults {
        let device = Device::new();
        let server = Server::of(&update.bytes);
        server.fault(".update", fault.clone());
        let before = device.medium();
        let error = error_of(|| device.install_url(&server.update_url()));
        assert!(error.contains(text), "{fault:?}: {error}");
        assert!(device.medium() == before, "{fault:?}");
    }
}

#[test]
fn nobody_listens() {
    let device = Device::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x.update", listener.local_addr().unwrap());
    drop(listener);
    let error = error_of(|| device.install_url(&url));
    assert!(error.contains("refused") && error.contains(&url), "{error}");
}

#[test]
fn a_server_that_recovers_is_forgiven() {
    let device = Device::new();
    let update = recipe(2).build();
    let server = Server::of(&update.bytes);
    server.fault(".update", Fault::Drop { after: 0, times: 2 });
    device.install_url(&server.update_url()).unwrap();
}
