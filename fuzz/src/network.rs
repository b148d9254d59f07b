//! What comes over the network: to PID 1, to the runner, to the update client.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use init::clock::{self, sntp};
use init::network::dhcp::{Action, Client as Dhcp};
use init::network::dhcp_message;
use ota::fetch::http::Client;
use ota::fetch::remote::Remote;
use ota::fetch::resource::Resource;
use ota::fetch::timeouts::Timeouts;
use tuf::Fetch;
use runner::args::Overrides;
use runner::budget::Budget;
use runner::config;
use runner::prepare::{Content, Preparer};
use runner::numbers;
use runner::source::http::{form, request_head};
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

/// Packets to a DHCP client, each behind its length in two bytes; the addresses of the first two
/// headers, ports and numbers that make it an answer to us are made right.
pub fn dhcp(mut input: &[u8]) {
    const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];
    let (mut client, mut now) = (Dhcp::new(7, 0), 0u64);
    client.timer(now);
    while let Some((length, rest)) = input.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length) % 1024).min(rest.len());
        let (packet, rest) = rest.split_at(length);
        input = rest;
        let _ = dhcp_message::parse(packet, 7, HARDWARE);
        let transaction = client.transaction;
        let Some(reply) =
            dhcp_message::parse(&addressed(packet, transaction, HARDWARE), transaction, HARDWARE)
        else {
            now = client.deadline().max(now);
            client.timer(now);
            continue;
        };
        for action in client.reply(reply, now) {
            if let Action::Apply(lease) = action {
                assert!((1..=32).contains(&lease.prefix));
                assert!(
                    lease.lasts >= 60 && lease.renew <= lease.lasts && lease.rebind <= lease.lasts
                );
                assert!(lease.name_servers.len() <= 4 && lease.time_servers.len() <= 4);
                assert!(!lease.domain.contains(['\n', ' ']), "{:?}", lease.domain);
            }
        }
        now += 1000;
    }
}

/// The same packet with the fields that only tell whom it is for.
fn addressed(packet: &[u8], transaction: u32, hardware: [u8; 6]) -> Vec<u8> {
    let mut bytes = packet.to_vec();
    let header = usize::from(bytes.first().copied().unwrap_or(0) & 0xf) * 4;
    let mut put = |at: usize, value: &[u8]| {
        if let Some(place) = bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    };
    put(header, &[0, 67, 0, 68]);
    put(header + 8, &[2]);
    put(header + 12, &transaction.to_be_bytes());
    put(header + 36, &hardware);
    put(header + 8 + 236, &[99, 130, 83, 99]);
    bytes
}

/// Eight bytes for the moment, then a time server's answer; it brings back what was asked.
pub fn sntp(input: &[u8]) {
    let Some((moment, answer)) = input.split_first_chunk::<8>() else { return };
    // Between 1970 and the year 10000, as a clock can stand.
    let now = i64::from_le_bytes(*moment).rem_euclid(253_402_300_800_000_000);
    let (_, question) = sntp::question(0x1234_5678_9abc_def0, now);
    let mut answer = answer.to_vec();
    if let Some(cookie) = answer.get_mut(24..32) {
        cookie.copy_from_slice(&0x1234_5678_9abc_def0u64.to_be_bytes());
    }
    if let Some(sntp::Answer::Time(said)) = sntp::read(&question, &answer, now + 20_000) {
        let known = clock::judge::Known { anchor: now, ..Default::default() };
        let _ = clock::judge::judge(now, &[said], &known);
    }
}

/// The head of a request to the runner.
pub fn request_head(input: &[u8]) {
    let Ok(Some((head, length))) = request_head::parse(input) else { return };
    assert!(length <= input.len());
    assert!(!head.path.contains('?'));
    // It is whole exactly there.
    assert_eq!(request_head::parse(&input[..length]), Ok(Some((head, length))));
    assert!(!matches!(request_head::parse(&input[..length - 1]), Ok(Some(_))));
}

/// What is sent to the runner to be looked at: the value of the Content-Type, a line end, the body.
pub fn infer_body(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (content_type, body) = input.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    if let Some(Ok(numbers)) = numbers::read(body, 16) {
        assert!(numbers.len() <= 17 && numbers.iter().all(|number| number.is_finite()));
    }
    let Ok(content_type) = std::str::from_utf8(content_type) else { return };
    let Ok(Some(boundary)) = form::boundary(content_type) else { return };
    if let Ok(file) = form::first_file(body, boundary) {
        let file = &body[file];
        let delimiter = format!("\r\n--{boundary}");
        assert!(!file.windows(delimiter.len()).any(|piece| piece == delimiter.as_bytes()));
    }
}

/// `model.toml`.
pub fn model_toml(input: &[u8]) {
    if let Ok(config) = config::parse(input, Path::new("/"), &Overrides::default()) {
        assert!((1..=64).contains(&config.threads) && config.name.len() <= 64);
        let _ = Preparer::new(&config.input, Budget::of_this_process(None));
    }
}

/// A picture, sent to a model that takes 32 times 24 pixels.
pub fn picture(input: &[u8]) {
    // More than a small device has, and less than a fuzzer may take.
    const MEMORY: u64 = 1 << 30;
    static PREPARER: OnceLock<Option<Preparer>> = OnceLock::new();
    let preparer = PREPARER.get_or_init(|| {
        let text = b"name = \"x\"\n[input]\nkind = \"picture\"\nwidth = 32\nheight = 24\nrange = [0, 255]\n[decoder]\nkind = \"raw\"\n";
        let config = config::parse(text, Path::new("/"), &Overrides::default()).ok()?;
        let preparer = Preparer::new(&config.input, Budget::of_this_process(Some(MEMORY)));
        preparer.model_loaded(1);
        Some(preparer)
    });
    let preparer = preparer.as_ref().expect("this model.toml is sound");
    if let Ok(prepared) = preparer.receive(input.to_vec()).prepared {
        match prepared.content {
            Content::Numbers(numbers) => {
                assert_eq!(numbers.len(), 32 * 24 * 3);
                assert!(numbers.iter().all(|number| number.is_finite()));
            }
            Content::Bytes(_) => panic!("a picture became bytes"),
        }
    }
}

/// One byte for what is asked and in which pieces it comes, then all that the server sends.
pub fn http_answer(input: &[u8]) {
    let Some((kind, answer)) = input.split_first() else { return };
    let timeouts = Timeouts {
        connect: Duration::from_secs(1),
        answer: Duration::from_secs(1),
        idle: Duration::from_secs(1),
        attempts: 2,
        first_retry: Duration::ZERO,
        ..Timeouts::default()
    };
    let piece = if kind & 0x80 == 0 { usize::MAX } else { 1 + usize::from(kind & 0x3f) };
    let server = Server { answer: answer.into(), piece };
    let client = Client::over(timeouts, server, Nobody);
    let fetched = AtomicU64::new(0);
    let ranges = match kind & 3 {
        0 => {
            const MOST: u64 = 4096;
            let mut remote = Remote::new(client, "http://server/repo").expect("a URL");
            if let Ok(bytes) = remote.fetch("metadata/timestamp.json", MOST) {
                assert!(bytes.len() as u64 <= MOST);
            }
            return;
        }
        1 => vec![5..105],
        2 => vec![0..10, 400..500, 1000..1001],
        _ => vec![0..300, 310..5000],
    };
    let asked: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    let source = Resource::Url(client, "http://server/repo/targets/x.update".into());
    let mut stream = source.read(ranges, &fetched).expect("nothing is asked for yet");
    let mut bytes = Vec::new();
    let result = (&mut stream).take(asked + 1).read_to_end(&mut bytes);
    assert!(bytes.len() as u64 <= asked, "more came out than was asked for");
    // Only what the server sent can come out.
    let most = answer.len() as u64 * 64;
    assert!(fetched.load(Ordering::Relaxed) <= most);
    if result.is_ok() {
        assert_eq!(bytes.len() as u64, asked, "an end before the end");
    }
}

/// Sends the same to whoever asks, whatever is asked.
#[derive(Clone, Debug)]
struct Server {
    answer: Arc<[u8]>,
    piece: usize,
}

impl Connector<()> for Server {
    type Out = Connection;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Connection>, ureq::Error> {
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Connection { buffers, answer: self.answer.clone(), piece: self.piece, sent: 0 }))
    }
}

#[derive(Debug)]
struct Connection {
    buffers: LazyBuffers,
    answer: Arc<[u8]>,
    piece: usize,
    sent: usize,
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, _: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        self.sent = 0;
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let room = self.buffers.input_append_buf();
        let rest = &self.answer[self.sent..];
        let length = rest.len().min(room.len()).min(self.piece);
        room[..length].copy_from_slice(&rest[..length]);
        self.sent += length;
        self.buffers.input_appended(length);
        Ok(length > 0)
    }

    fn is_open(&mut self) -> bool {
        self.sent < self.answer.len()
    }
}

/// Every name leads to the same address.
#[derive(Clone, Debug)]
struct Nobody;

impl Resolver for Nobody {
    fn resolve(
        &self,
        _: &Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut found = self.empty();
        found.push(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80)));
        Ok(found)
    }
}
