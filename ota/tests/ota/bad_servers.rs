//! Servers that answer 404, 500, nothing, garbage, endless data or a byte now and then: one clear
//! error each, in bounded time, and nothing touched.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::support::{Fault, Server, TestDevice, publish, raw, recipe};
use ota::commands::{Command, run};
use ota::context::Context;

fn faults() -> Vec<(Fault, &'static str)> {
    vec![
        (Fault::Status(404), "no such file"),
        (Fault::Status(500), "the server answered 500"),
        (Fault::Status(403), "the server answered 403"),
        (Fault::Silence, "no answer within"),
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
    faults.push((Fault::Paced(10), "the server sends less than"));
    faults.push((Fault::Altered(300), "timestamp.json"));
    for (fault, text) in faults {
        let device = TestDevice::new();
        let files = publish(&[(&update, update.bytes.len() as u64)]);
        device.put("etc/ferrite/tuf-root.json", &files["metadata/1.root.json"]);
        let server = Server::of_files(files).unwrap();
        server.spoil("timestamp.json", fault);
        let before = device.medium();
        let error = error_of(|| device.update_from(&server.url()));
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
    faults.push((Fault::Paced(10), "the server sends less than"));
    faults.push((Fault::WrongRange, "another part of the file"));
    faults.push((Fault::BadChunks, "attempts"));
    for (fault, text) in faults {
        let device = TestDevice::new();
        let (server, url) = update.serve();
        server.spoil(".update", fault);
        let before = device.medium();
        let error = error_of(|| device.install_url(&url));
        assert!(error.contains(text), "{fault:?}: {error}");
        assert!(device.medium() == before, "{fault:?}");
    }
}

#[test]
fn the_status_says_why_nothing_comes_of_a_check() {
    let update = recipe(2).build();
    let text = |device: &TestDevice| {
        ota::status::collect(&Context::load(&device.handle).unwrap()).unwrap().to_text()
    };
    for by_hand in [false, true] {
        let device = TestDevice::new();
        let files = publish(&[(&update, update.bytes.len() as u64)]);
        device.put("etc/ferrite/tuf-root.json", &files["metadata/1.root.json"]);
        let server = Server::of_files(files).unwrap();
        let ask = || match by_hand {
            false => device.update_from(&server.url()).map(drop),
            true => {
                device.settings(&server.url());
                run(Command::Install(None), &device.handle)
            }
        };
        assert!(text(&device).ends_with("last check: never"), "{}", text(&device));
        server.spoil("timestamp.json", Fault::Status(404));
        ask().unwrap_err();
        let told = text(&device);
        assert!(told.contains("last check: never answered\nlast error: http://"), "{told}");
        assert!(told.contains("timestamp.json: the repository has no such file"), "{told}");
        // It answers, and has not what it offers.
        server.heal();
        server.spoil(".update", Fault::Status(404));
        ask().unwrap_err();
        let told = text(&device);
        assert!(told.contains("last check: 20"), "{told}");
        assert!(told.contains("last error: ") && told.contains("no such file"), "{told}");
        server.heal();
        ask().unwrap();
        assert!(!text(&device).contains("last error"), "{}", text(&device));
    }
}

/// An object store says 403 of what is not there to who may not list it.
#[test]
fn a_store_that_forbids_what_is_not_there_is_one_without_a_new_root() {
    let update = recipe(2).build();
    let device = TestDevice::new();
    let files = publish(&[(&update, update.bytes.len() as u64)]);
    device.put("etc/ferrite/tuf-root.json", &files["metadata/1.root.json"]);
    let server = Server::of_files(files).unwrap();
    server.spoil("2.root.json", Fault::Status(403));
    assert_eq!(device.update_from(&server.url()), Ok(true));
    server.spoil("timestamp.json", Fault::Status(403));
    let error = device.update_from(&server.url()).unwrap_err().to_string();
    assert!(error.ends_with("timestamp.json: the server answered 403"), "{error}");
}

#[test]
fn nobody_listens() {
    let device = TestDevice::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x.update", listener.local_addr().unwrap());
    drop(listener);
    let error = error_of(|| device.install_url(&url));
    assert!(error.contains("refused") && error.contains(&url), "{error}");
}

#[test]
fn a_server_that_recovers_is_forgiven() {
    let device = TestDevice::new();
    let update = recipe(2).build();
    let (server, url) = update.serve();
    server.spoil_times(".update", Fault::DropAfter(0), 2);
    device.install_url(&url).unwrap();
}

/// A device that trusts the root of a repository, which nobody serves.
fn device() -> TestDevice {
    let device = TestDevice::new();
    let update = recipe(2).build();
    let files = publish(&[(&update, update.bytes.len() as u64)]);
    device.put("etc/ferrite/tuf-root.json", &files["metadata/1.root.json"]);
    device
}

/// Asks a server that answers the first question with `begin`, and then with `drip` for ever.
/// Gives the error and how long it took.
fn dripping(begin: &'static str, drip: &'static str) -> (String, Duration) {
    let device = device();
    let address = raw::start(move |_, stream| {
        let _ = stream.write_all(begin.as_bytes());
        raw::drip(stream, drip.as_bytes());
    });
    let begun = Instant::now();
    let error = error_of(|| device.update_from(&format!("http://{address}")));
    (error, begun.elapsed())
}

#[test]
fn not_found_is_not_listened_to_for_hours() {
    const LONG: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 4000\r\n\r\n";
    const CHUNKED: &str = "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n";
    const TRAILERS: &str =
        "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: ";
    // The root that comes next and the timestamp are asked for: two answers.
    for (begin, drip) in [(LONG, "x"), (CHUNKED, "1\r\nx\r\n"), (CHUNKED, "0"), (TRAILERS, "a")] {
        let (error, took) = dripping(begin, drip);
        assert!(error.contains("no such file"), "{error}");
        assert!(took < Duration::from_secs(4), "{begin:?} {drip:?} took {took:?}");
    }
}

#[test]
fn heads_and_framing_that_come_byte_by_byte_are_given_up() {
    let most = Duration::from_secs(5);
    for (begin, drip) in [
        ("HTTP/1.1 200 OK\r\n", "A: b\r\n"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("HTTP/1.1 302 Found\r\nLocation: /x\r\n", "A: b\r\n"),
        // The length of a chunk never comes to its end; nor does what is behind the last one.
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", "A: b\r\n"),
    ] {
        let (error, took) = dripping(begin, drip);
        assert!(took < most, "{begin:?} {drip:?} took {took:?}: {error}");
    }
}

#[test]
fn a_redirections_page_is_not_listened_to_for_hours() {
    let device = device();
    let address = raw::start(|head, stream| {
        if head.starts_with("GET /there/") {
            let _ = stream.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
            return;
        }
        let path = head.split(' ').nth(1).unwrap_or("");
        let _ = write!(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: /there{path}\r\nContent-Length: 4000\r\n\r\n"
        );
        raw::drip(stream, b"x");
    });
    let begun = Instant::now();
    let error = error_of(|| device.update_from(&format!("http://{address}")));
    assert!(error.contains("403"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn a_proxy_that_answers_byte_by_byte_is_given_up() {
    let device = device();
    let address = raw::start(|_, stream| raw::drip(stream, b"HTTP/1.1 200 OK\r\nA: b\r\nA: b"));
    device.extra_settings(&format!(r#""proxy": "http://{address}""#));
    let begun = Instant::now();
    let error = error_of(|| device.update_from("http://repository.example"));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}: {error}", begun.elapsed());
}

#[test]
fn the_answer_to_a_report_is_not_listened_to() {
    let device = device();
    let address = raw::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n");
        raw::drip(stream, b"x");
    });
    device.extra_settings(&format!(r#""report_url": "http://{address}/report""#));
    device.settings("http://127.0.0.1:9/");
    ota::report::note(&device.handle, ota::state::Outcome::Committed, "2", "").unwrap();
    let context = ota::context::Context::load(&device.handle).unwrap();
    let begun = Instant::now();
    let settings = context.settings().unwrap();
    ota::report::send_due(&device.handle, settings, crate::support::timeouts(), &context.running)
        .unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

/// Answers each range with its beginning only, as `answer` does it.
fn piecemeal(answer: impl Fn(u64, &mut std::net::TcpStream) + Send + Sync + 'static) -> String {
    let address = raw::start(move |head, stream| {
        let range = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": bytes=")?;
            name.eq_ignore_ascii_case("range").then(|| value.to_string())
        });
        let first = range.and_then(|range| range.split_once('-')?.0.parse().ok()).unwrap_or(0);
        answer(first, stream);
    });
    format!("http://{address}/x.update")
}

#[test]
fn a_byte_in_an_answer_of_its_own_is_too_little() {
    let device = TestDevice::new();
    let bytes = recipe(2).build().bytes;
    let url = piecemeal(move |first, stream| {
        let _ = write!(
            stream,
            "HTTP/1.1 206 X\r\nContent-Range: bytes {first}-{first}/{}\r\nContent-Length: 1\r\n\
             Connection: close\r\n\r\n",
            bytes.len()
        );
        let _ = stream.write_all(&bytes[first as usize..][..1]);
    });
    let error = error_of(|| device.install_url(&url));
    assert!(error.contains("shorter than what was asked"), "{error}");
}

#[test]
fn lines_between_parts_that_come_byte_by_byte_are_given_up() {
    let url = piecemeal(|_, stream| {
        let _ = stream.write_all(
            b"HTTP/1.1 206 X\r\nContent-Type: multipart/byteranges; boundary=b\r\n\r\n--b\r\n",
        );
        raw::drip(stream, b"A: b\r\n");
    });
    let resource = ota::fetch::resource::Resource::Url(
        ota::fetch::http::Client::new(crate::support::timeouts(), None),
        url,
    );
    let fetched = Default::default();
    let begun = Instant::now();
    let mut stream = resource.read([0..10, 1000..1010], &fetched).unwrap();
    assert!(std::io::Read::read(&mut stream, &mut [0; 20]).is_err());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_redirection_leads_to_no_other_address_of_this_device_or_its_network() {
    let services = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    services.set_nonblocking(true).unwrap();
    let service = services.local_addr().unwrap();
    for to in [
        format!("http://{service}/"),
        format!("http://[::ffff:127.0.0.2]:{}/", service.port()),
        "http://[::1]:9/".into(),
        "http://169.254.169.254/latest/meta-data".into(),
        "http://10.0.0.1/".into(),
        "http://0.0.0.0:9/".into(),
        // A name, or a number, that means this device once it is looked up.
        format!("http://0177.0.0.2:{}/", service.port()),
        "file:///etc/passwd".into(),
    ] {
        let device = device();
        let location = to.clone();
        let address = raw::start(move |_, stream| {
            let _ = write!(
                stream,
                "HTTP/1.1 307 Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
            );
        });
        let error = error_of(|| device.update_from(&format!("http://{address}")));
        assert!(error.contains("it redirects to"), "{to}: {error}");
        assert!(services.accept().is_err(), "{to} was asked");
    }
}
