//! A server that writes what a test says, byte by byte if need be.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Longer than any device of a test waits.
const FOR_EVER: Duration = Duration::from_secs(30);

/// Answers each connection's first request, of which it gets the head. Gives the address.
pub fn start(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                let mut head = String::new();
                let mut input = BufReader::new(stream.try_clone().unwrap());
                while !head.ends_with("\r\n\r\n") && input.read_line(&mut head).unwrap_or(0) > 0 {}
                answer(&head, &mut stream);
            });
        }
    });
    address
}

/// Writes a byte every 100 ms, over and over, until nobody listens: never silent for long, never
/// done.
pub fn drip(stream: &mut impl Write, bytes: &[u8]) {
    let begun = std::time::Instant::now();
    for byte in bytes.iter().cycle() {
        if begun.elapsed() > FOR_EVER || stream.write_all(&[*byte]).is_err() {
            return;
        }
        let _ = stream.flush();
        std::thread::sleep(Duration::from_millis(100));
    }
}
