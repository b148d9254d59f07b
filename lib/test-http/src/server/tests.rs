use super::*;
use crate::fault::Fault;
use std::io::{Read, Write};

const FILE: &[u8] = b"0123456789";

fn server() -> (Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), FILE).unwrap();
    (Server::start(dir.path()).unwrap(), dir)
}

fn get(server: &Server, path: &str, more: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n").unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    all
}

fn body(answer: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    (head[..head.len().min(12)].to_owned(), body.to_owned())
}

#[test]
fn a_port_that_is_given_up_late_is_waited_for() {
    let held = listen(0).unwrap();
    let port = held.local_addr().unwrap().port();
    let holder = std::thread::spawn(move || {
        std::thread::sleep(2 * TICK);
        drop(held);
    });
    listen(port).unwrap();
    holder.join().unwrap();
}

#[test]
fn files_and_ranges_are_served_and_counted() {
    let (server, _dir) = server();
    assert_eq!(body(&get(&server, "/f", "")), ("HTTP/1.1 200".into(), "0123456789".into()));
    assert_eq!(
        body(&get(&server, "/f", "Range: bytes=4-\r\n")),
        ("HTTP/1.1 206".into(), "456789".into())
    );
    assert_eq!(body(&get(&server, "/f", "range: bytes=4-5\r\n")).1, "45");
    assert_eq!(body(&get(&server, "/f", "Range: bytes=10-\r\n")).0, "HTTP/1.1 416");
    assert_eq!(body(&get(&server, "/../f", "")).1, "0123456789");
    assert_eq!(body(&get(&server, "/none", "")).0, "HTTP/1.1 404");
    let served = server.served_of("/f");
    assert_eq!(served.ranges_each, [0, 0, 1, 1, 1]);
    assert_eq!((served.requests, served.ranges), (5, vec![4..u64::MAX, 4..6, 10..u64::MAX]));
    assert_eq!(server.served()["/f"].bytes, 18);
    let (head, parts) = body(&get(&server, "/f", "range: bytes=0-1,4-5,99-\r\n"));
    assert_eq!(head, "HTTP/1.1 206");
    let part = |first: u8, last: u8, text| {
        format!("\r\n--3d6b6a416f9b5\r\nContent-Range: bytes {first}-{last}/10\r\n\r\n{text}")
    };
    let parts_expected = part(0, 1, "01") + &part(4, 5, "45") + "\r\n--3d6b6a416f9b5--\r\n";
    assert_eq!(parts, parts_expected);
    assert_eq!(server.served_of("/f").ranges_each.last(), Some(&3));
}

#[test]
fn each_fault_is_what_it_says() {
    let (server, _dir) = server();
    let with = |fault| {
        server.heal();
        server.spoil("f", fault);
        body(&get(&server, "/f", "Range: bytes=2-\r\n"))
    };
    assert_eq!(with(Fault::Status(500)).0, "HTTP/1.1 500");
    assert_eq!(with(Fault::DropAfter(3)).1, "234");
    let begin = Instant::now();
    assert_eq!(with(Fault::Paced(80)).1, "23456789");
    assert!(begin.elapsed() >= TICK, "{:?}", begin.elapsed());
    assert_eq!(with(Fault::Truncated(4)).1, "23");
    assert_eq!(with(Fault::Altered(2)).1.len(), 10, "one byte became a replacement character");
    assert_eq!(with(Fault::AlteredFrom(10)).1, "23456789", "there is nothing from there on");
    assert!(with(Fault::AlteredFrom(8)).1.starts_with("234567\u{fffd}"));
    assert_eq!(with(Fault::NoRange), ("HTTP/1.1 200".into(), "0123456789".into()));
    assert!(!with(Fault::Garbage).0.starts_with("HTTP"));
    server.heal();
    assert_eq!(body(&get(&server, "/f", "")).1, "0123456789");
}

#[test]
fn a_fault_may_strike_only_a_few_times() {
    let (server, _dir) = server();
    server.spoil_times("f", Fault::Status(503), 2);
    let heads: Vec<_> = (0..3).map(|_| body(&get(&server, "/f", "")).0).collect();
    assert_eq!(heads, ["HTTP/1.1 503", "HTTP/1.1 503", "HTTP/1.1 200"]);
}

#[test]
fn slow_and_endless_answers_end_with_the_server() {
    let (server, _dir) = server();
    for (fault, most) in [(Fault::Silence, 0), (Fault::Trickle, 9), (Fault::Endless, usize::MAX)] {
        server.heal();
        server.spoil("f", fault);
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        write!(stream, "GET /f HTTP/1.1\r\n\r\n").unwrap();
        let (mut all, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(length) = stream.read(&mut piece) {
            all.extend_from_slice(&piece[..length]);
            if length == 0 || all.len() > 1 << 20 {
                break;
            }
        }
        let (_, body) = body(&all);
        assert!(body.len() <= most, "{fault:?}: {}", body.len());
        assert_eq!(fault == Fault::Endless, all.len() > 1 << 20, "{fault:?}");
    }
    drop(server);
}

#[test]
fn a_slow_answer_is_never_silent_for_long() {
    let (server, _dir) = server();
    server.spoil("f", Fault::Paced(20));
    let begin = Instant::now();
    let mut stream = TcpStream::connect(server.address).unwrap();
    write!(stream, "GET /f HTTP/1.1\r\n\r\n").unwrap();
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    let mut pieces = 0;
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        all.extend_from_slice(&piece[..length]);
        pieces += 1;
    }
    assert_eq!(body(&all).1, "0123456789");
    assert!(begin.elapsed() >= 4 * TICK && pieces > 2, "{:?}, {pieces}", begin.elapsed());
}

#[test]
fn files_from_memory_can_be_exchanged_and_the_order_of_requests_is_known() {
    let server = Server::of_files(BTreeMap::from([("a".into(), b"1".to_vec())])).unwrap();
    assert_eq!(body(&get(&server, "/a", "")).1, "1");
    server.put(BTreeMap::from([("b/c".into(), b"22".to_vec())]));
    assert_eq!(body(&get(&server, "/a", "")).0, "HTTP/1.1 404");
    assert_eq!(body(&get(&server, "/b/c", "")).1, "22");
    assert_eq!(server.take_requests(), ["/a", "/a", "/b/c"]);
    assert!(server.take_requests().is_empty());
    assert_eq!(server.sent(), 3);
}

#[test]
fn ranges_go_wrong_as_asked_for() {
    let (server, _dir) = server();
    let with = |fault| {
        server.heal();
        server.spoil("f", fault);
        let all = get(&server, "/f", "Range: bytes=2-3,6-7\r\n");
        (String::from_utf8_lossy(&all).into_owned(), body(&all).1)
    };
    assert_eq!(with(Fault::SingleRangeOnly).1, "0123456789");
    assert_eq!(with(Fault::FirstRangeOnly).1, "23");
    assert!(with(Fault::WrongRange).0.contains("Content-Range: bytes 3-3/10"));
    assert!(with(Fault::BadChunks).0.contains("chunked"));
}

#[test]
fn a_link_that_is_cut_stays_down_until_it_is_healed() {
    let (server, _dir) = server();
    let (sender, cut) = std::sync::mpsc::channel();
    server.cut_at(10, move || sender.send(()).unwrap_or_default());
    assert_eq!(body(&get(&server, "/f", "")).1, "0123456789");
    cut.try_recv().unwrap();
    assert!(get(&server, "/f", "").is_empty());
    server.heal();
    assert_eq!(body(&get(&server, "/f", "")).1, "0123456789");
}
