//! Asks the model every ten seconds whether it is well.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::FromRawFd;
use std::time::Duration;

fn main() {
    // A newline on this descriptor says "ready"; each further one is a heartbeat.
    let number = std::env::var("FERRITE_NOTIFY_FD").ok().and_then(|text| text.parse().ok());
    // SAFETY: init opened it for this program, and nothing else here uses it.
    let mut notify = number.map(|number| unsafe { File::from_raw_fd(number) });
    let mut told = None;
    loop {
        let well = is_well().unwrap_or(false);
        if told != Some(well) {
            println!("the model is {}", if well { "well" } else { "not well" });
            told = Some(well);
        }
        if let Some(notify) = notify.as_mut().filter(|_| well) {
            let _ = notify.write_all(b"\n");
        }
        std::thread::sleep(Duration::from_secs(if well { 10 } else { 1 }));
    }
}

fn is_well() -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", 8080))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: device\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200 "))
}
