//! The HTTP source over loopback: answers, and what clients that misbehave get.

mod model;

use model::{FACE_SHA256, Workload, face, fetched, runner};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

struct Server {
    workload: Workload,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

fn model_without_folder() -> tempfile::TempDir {
    let folder = face();
    let path = folder.path().join("model.toml");
    let toml = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, toml.replace("folder = \"/usr/share/photos\"\n", "")).unwrap();
    folder
}

fn serve() -> Server {
    serve_with(&[])
}

fn serve_with(arguments: &[&str]) -> Server {
    let folder = model_without_folder();
    let mut command = runner(folder.path());
    command
        .args(arguments)
        .arg(format!("--expect-sha256={FACE_SHA256}"))
        .arg("--http=127.0.0.1:0")
        .arg(format!("--results={}", folder.path().join("results.jsonl").display()));
    let mut workload = Workload::start(command);
    let line = workload.line("listening on ");
    let address = line.rsplit(' ').next().unwrap().parse().unwrap();
    Server { workload, address, _folder: folder }
}

impl Server {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends bytes, returns the status and the body. Connections that are just closing may still
    /// hold their place on a busy machine; 503 says to try again, so this does.
    fn send(&self, request: &[u8]) -> (u16, String) {
        for _ in 0..20 {
            let mut stream = self.connect();
            stream.write_all(request).unwrap();
            let answer = read_answer(&mut stream);
            if answer.0 != 503 {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("503 for four seconds");
    }

    fn post(&self, body: &[u8]) -> (u16, String) {
        let mut request =
            format!("POST /infer HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len())
                .into_bytes();
        request.extend_from_slice(body);
        self.send(&request)
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
    }
}

/// Lets children have the descriptor, too.
fn keep_open(listener: &std::net::TcpListener) {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    fcntl(listener, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
}

fn read_answer(stream: &mut TcpStream) -> (u16, String) {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(|| panic!("answer {text:?}"));
    (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[test]
fn a_posted_photograph_is_answered_and_counted() {
    let mut server = serve();
    let (status, body) = server.post(&std::fs::read(fetched("photos/astronaut.png")).unwrap());
    assert_eq!(status, 200, "{body}");
    let result: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(result["detections"].as_array().unwrap().len(), 1);
    assert_eq!(server.workload.result()["detections"], result["detections"], "also on stdout");
    assert_eq!(server.get("/healthz"), (200, "ok\n".to_owned()));
    assert!(server.get("/metrics").1.contains("runner_results_total 1\n"));
    assert_eq!(server.workload.terminate().code(), Some(0));
}

impl Server {
    /// What curl gets.
    fn curl(&self, path: &str, arguments: &[&str]) -> String {
        let out = std::process::Command::new("curl")
            .args(["-sS", "--max-time", "30"])
            .args(arguments)
            .arg(format!("http://{}{path}", self.address))
            .output()
            .expect("curl (package curl)");
        assert!(out.status.success(), "{out:?}");
        String::from_utf8(out.stdout).unwrap()
    }
}

/// As it is, in chunks, and in a form; known length or not.
#[test]
fn curl_gets_its_answer_however_it_sends_the_picture() {
    let server = serve();
    let photo = fetched("photos/astronaut.png").display().to_string();
    let (data, file) = (format!("@{photo}"), format!("file=@{photo}"));
    const CHUNKED: &str = "Transfer-Encoding: chunked";
    for arguments in [
        &["--data-binary", &data][..],
        &["--data-binary", &data, "-H", CHUNKED],
        &["-X", "POST", "-T", &photo, "-H", CHUNKED],
        &["-F", &file],
        &["-F", "camera=front", "-F", &file, "-F", "second=@/dev/null"],
        &["-F", &file, "-H", CHUNKED],
    ] {
        let answer = server.curl("/infer", arguments);
        let result: Value = serde_json::from_str(&answer)
            .unwrap_or_else(|e| panic!("{arguments:?}: {e}: {answer}"));
        assert_eq!(result["detections"].as_array().map(Vec::len), Some(1), "{answer}");
    }
    let without = server.curl("/infer", &["-F", "camera=front"]);
    assert!(without.contains("the form has no file; send one: curl -F file=@"), "{without}");
}

#[test]
fn head_is_answered_with_the_length_and_nothing_else() {
    let server = serve();
    let answer = server.curl("/healthz", &["-I"]);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("Content-Length: 3\r\n"), "{answer}");
    assert_eq!(server.send(b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n"), (200, String::new()));
}

#[test]
fn wrong_requests_get_an_error_and_inference_goes_on() {
    let server = serve();
    let photo = std::fs::read(fetched("photos/astronaut.png")).unwrap();
    for (body, word) in [
        (&b"garbage, no picture at all"[..], "not a PNG"),
        (&photo[..photo.len() / 2], "ends early"),
        (&b""[..], "empty"),
    ] {
        let (status, text) = server.post(body);
        assert_eq!(status, 400, "{text}");
        assert!(text.contains(word), "{text}");
    }
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 404),
        ("GET /infer HTTP/1.1\r\n\r\n", 405),
        ("POST /infer HTTP/1.1\r\n\r\n", 411),
        ("POST /infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST /infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        ("POST /infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc", 400),
        ("POST /infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1000001\r\n", 413),
        ("POST /infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", 413),
        ("POST /infer HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        ("POST /infer HTTP/1.1\r\nContent-Length: 16777217\r\n\r\n", 413),
        ("POST /infer HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n", 413),
        ("POST /infer HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    ] {
        assert_eq!(server.send(request.as_bytes()).0, status, "{request:?}");
    }
    let endless_head = format!("GET /healthz HTTP/1.1\r\nX: {}", "a".repeat(9000));
    assert_eq!(server.send(endless_head.as_bytes()).0, 431);
    assert_eq!(server.post(&photo).0, 200);
}

#[test]
fn slow_clients_are_cut_off_and_do_not_hold_up_others() {
    let server = serve();
    let photo = std::fs::read(fetched("photos/astronaut.png")).unwrap();
    let mut slow: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
    slow[0].write_all(b"POST /inf").unwrap();
    slow[1].write_all(b"POST /infer HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nabc").unwrap();
    assert_eq!(server.post(&photo).0, 200, "others are served meanwhile");
    let begun = Instant::now();
    for stream in &mut slow {
        assert_eq!(read_answer(stream).0, 408);
    }
    assert!(begun.elapsed() < Duration::from_secs(25));
    assert_eq!(server.post(&photo).0, 200);
}

/// However many connections one client holds, others are answered, and he is as well.
#[test]
fn connections_that_say_nothing_keep_nobody_out() {
    let server = serve();
    let photo = std::fs::read(fetched("photos/astronaut.png")).unwrap();
    let mut held: Vec<TcpStream> = (0..40).map(|_| server.connect()).collect();
    for stream in &mut held {
        // Some are closed already, for those that came later.
        let _ = stream.write_all(b"GET /heal");
    }
    for _ in 0..10 {
        let begun = Instant::now();
        let mut asking = server.connect();
        asking.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(read_answer(&mut asking).0, 200);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    let mut asking = server.connect();
    let head = format!("POST /infer HTTP/1.1\r\nContent-Length: {}\r\n\r\n", photo.len());
    asking.write_all(&[head.as_bytes(), &photo].concat()).unwrap();
    assert_eq!(read_answer(&mut asking).0, 200);
}

/// Bodies that stop in the middle hold the memory for bodies no longer than somebody needs it.
#[test]
fn bodies_that_stop_make_room_for_those_that_come() {
    let server = serve_with(&["--memory=134217728"]);
    let photo = std::fs::read(fetched("photos/astronaut.png")).unwrap();
    let mut stalled: Vec<TcpStream> = (0..6).map(|_| server.connect()).collect();
    for stream in &mut stalled {
        let head = b"POST /infer HTTP/1.1\r\nContent-Length: 8000000\r\n\r\n";
        let body = vec![0; 3_000_000];
        let _ = stream.write_all(head).and_then(|()| stream.write_all(&body));
    }
    std::thread::sleep(Duration::from_millis(1500));
    let begun = Instant::now();
    assert_eq!(server.post(&photo).0, 200);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(server.get("/healthz").0, 200);
}

/// A socket that `init` listens on is taken over, whoever else wants the port.
#[test]
fn a_port_that_was_handed_over_is_served() {
    use std::os::fd::AsRawFd;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut early = TcpStream::connect(address).unwrap();
    early.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    let folder = model_without_folder();
    // The shell gives the socket the number that the protocol asks for, and its own process id.
    let script = format!(
        "exec 3<&{} && LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"",
        listener.as_raw_fd()
    );
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script]).arg(env!("CARGO_BIN_EXE_runner"));
    command
        .arg(format!("--model={}", folder.path().display()))
        .arg(format!("--expect-sha256={FACE_SHA256}"))
        .arg(format!("--http={address}"))
        .arg(format!("--results={}", folder.path().join("results.jsonl").display()));
    keep_open(&listener);
    let mut workload = Workload::start(command);
    workload.line("listening on ");
    early.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert_eq!(read_answer(&mut early), (200, "ok\n".to_owned()), "it came before the runner");
    drop(workload);
}
