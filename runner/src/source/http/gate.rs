//! Who may be connected, and how much they may send: one client must not keep the others out.
//!
//! There is a place for everybody who connects. When there is none, whoever has been sending a
//! request for longest loses his, out of those whose network has the most: so `GET /healthz` is
//! answered whoever else is connected and however slowly they send. Places in which the model is
//! waited for are fewer, and are not taken away.

use std::net::{IpAddr, Ipv6Addr, Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Connections at a time.
const MAX_PLACES: usize = 24;
/// Of them from one network: an IPv4 address, or 64 bits of an IPv6 one.
const MAX_PLACES_OF_ONE: usize = 12;
/// Connections that wait for the model.
pub const MAX_WAITING: usize = 8;
/// Of them from one network.
const MAX_WAITING_OF_ONE: usize = 6;
/// Who sends a body slower than so many bytes a second loses his place when the memory is needed.
const LEAST_RATE: u64 = 256 << 10;
/// As far as that is measured: in spans of this length.
const SPAN: Duration = Duration::from_secs(1);

/// The network that counts as one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer([u16; 4]);

impl Peer {
    /// Of an address.
    pub fn of(address: IpAddr) -> Peer {
        let address = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        match address.to_ipv4_mapped() {
            // An address of its own, told apart from every IPv6 network by a group nobody has.
            Some(v4) => {
                let [a, b, c, d] = v4.octets().map(u16::from);
                Peer([0, 0xffff, a << 8 | b, c << 8 | d])
            }
            None => Peer(first_half(address)),
        }
    }
}

fn first_half(address: Ipv6Addr) -> [u16; 4] {
    let [a, b, c, d, ..] = address.segments();
    [a, b, c, d]
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Sending a request, or taking the rest of a refusal.
    Sending,
    /// Waiting for the model.
    Waiting,
}

/// One connection.
#[derive(Debug, Clone, Copy)]
struct Seat {
    id: u64,
    peer: Peer,
    since: Instant,
    stage: Stage,
    /// Bytes of its body that came.
    held: u64,
    pace: Pace,
}

/// How fast a body has come lately: what came long ago is no excuse for a drip.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// When the span began that is being measured, and the bytes that had come by then.
    from: Instant,
    before: u64,
    /// Bytes a second in the span before that.
    last: Option<u64>,
}

impl Pace {
    fn new(now: Instant) -> Pace {
        Pace { from: now, before: 0, last: None }
    }

    /// Bytes a second; `None` before there was time to tell.
    fn rate(&self, held: u64, now: Instant) -> Option<u64> {
        let span = now.saturating_duration_since(self.from);
        if span < SPAN {
            return self.last;
        }
        Some(held.saturating_sub(self.before) * 1000 / span.as_millis().max(1) as u64)
    }

    /// More came.
    fn step(&mut self, held: u64, now: Instant) {
        if now.saturating_duration_since(self.from) >= SPAN {
            *self = Pace { from: now, before: held, last: self.rate(held, now) };
        }
    }
}

/// All connections.
pub struct Gate {
    inner: Mutex<Inner>,
    /// Bytes that all bodies together may have.
    room: u64,
}

#[derive(Default)]
struct Inner {
    seats: Vec<(Seat, Arc<TcpStream>)>,
    last: u64,
}

/// A connection's place; given back when it is dropped.
pub struct Place {
    gate: Arc<Gate>,
    id: u64,
}

impl Gate {
    /// Nobody is connected.
    pub fn new(room: u64) -> Arc<Gate> {
        Arc::new(Gate { inner: Mutex::new(Inner::default()), room })
    }

    /// Lets a connection in, if need be in the place of another. `None` when all wait for the model.
    pub fn enter(self: &Arc<Self>, peer: Peer, stream: &Arc<TcpStream>) -> Option<Place> {
        let mut inner = self.lock();
        if let Some(at) = inner.full(peer)? {
            inner.send_away(at);
        }
        inner.last += 1;
        let id = inner.last;
        let now = Instant::now();
        let (stage, pace) = (Stage::Sending, Pace::new(now));
        let seat = Seat { id, peer, since: now, stage, held: 0, pace };
        inner.seats.push((seat, Arc::clone(stream)));
        Some(Place { gate: Arc::clone(self), id })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Whether somebody has to go before this peer can come: nobody, who, or (`None`) it cannot come.
    fn full(&self, peer: Peer) -> Option<Option<usize>> {
        let seats: Vec<Seat> = self.seats.iter().map(|(seat, _)| *seat).collect();
        place_for(&seats, peer)
    }

    fn send_away(&mut self, at: usize) {
        let (_, stream) = self.seats.swap_remove(at);
        // Its thread reads the end of the stream, and goes.
        let _ = stream.shutdown(Shutdown::Both);
    }

    fn seat(&mut self, id: u64) -> Option<&mut Seat> {
        self.seats.iter_mut().map(|(seat, _)| seat).find(|seat| seat.id == id)
    }
}

impl Place {
    /// Bytes that all bodies together may have.
    pub fn room(&self) -> u64 {
        self.gate.room
    }

    /// More bytes of the body came. False when there is no memory for them, or the place was taken
    /// away.
    pub fn hold(&self, bytes: u64) -> bool {
        let mut inner = self.gate.lock();
        loop {
            let held: u64 = inner.seats.iter().map(|(seat, _)| seat.held).sum();
            if held + bytes <= self.gate.room {
                let seat = inner.seat(self.id);
                let still_there = seat.is_some();
                if let Some(seat) = seat {
                    seat.held += bytes;
                    seat.pace.step(seat.held, Instant::now());
                }
                return still_there;
            }
            let seats: Vec<Seat> = inner.seats.iter().map(|(seat, _)| *seat).collect();
            match slowest(&seats, self.id, Instant::now()) {
                Some(at) => inner.send_away(at),
                None => return false,
            }
        }
    }

    /// The body is whole: waits for the model from now on. False when too many do, or the place was
    /// taken away.
    pub fn wait(&self) -> bool {
        let mut inner = self.gate.lock();
        let waiting = |peer: Option<Peer>| {
            let seats = inner.seats.iter().map(|(seat, _)| seat);
            let of_peer = |seat: &&Seat| peer.is_none_or(|peer| seat.peer == peer);
            seats.filter(|seat| seat.stage == Stage::Waiting).filter(of_peer).count()
        };
        let Some(peer) =
            inner.seats.iter().find(|(seat, _)| seat.id == self.id).map(|(s, _)| s.peer)
        else {
            return false;
        };
        if waiting(None) >= MAX_WAITING || waiting(Some(peer)) >= MAX_WAITING_OF_ONE {
            return false;
        }
        if let Some(seat) = inner.seat(self.id) {
            seat.stage = Stage::Waiting;
        }
        true
    }

    /// Its body takes no memory any more.
    pub fn let_go(&self) {
        if let Some(seat) = self.gate.lock().seat(self.id) {
            seat.held = 0;
        }
    }

    /// It is answered, and takes only what is left of that.
    pub fn answered(&self) {
        if let Some(seat) = self.gate.lock().seat(self.id) {
            (seat.held, seat.stage) = (0, Stage::Sending);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.lock().seats.retain(|(seat, _)| seat.id != self.id);
    }
}

/// Who has to go before `peer` can come: `Some(None)` nobody, `None`: it cannot come.
fn place_for(seats: &[Seat], peer: Peer) -> Option<Option<usize>> {
    let count = |peer: Peer| seats.iter().filter(|seat| seat.peer == peer).count();
    let oldest = |wanted: &dyn Fn(Peer) -> bool| {
        let sending = seats.iter().enumerate().filter(|(_, seat)| seat.stage == Stage::Sending);
        sending.filter(|(_, seat)| wanted(seat.peer)).min_by_key(|(_, seat)| seat.since)
    };
    let goes = if count(peer) >= MAX_PLACES_OF_ONE {
        oldest(&|other| other == peer)
    } else if seats.len() >= MAX_PLACES {
        let sending = seats.iter().filter(|seat| seat.stage == Stage::Sending);
        let most = sending.map(|seat| count(seat.peer)).max()?;
        oldest(&|other| count(other) == most)
    } else {
        return Some(None);
    };
    goes.map(|(at, _)| Some(at))
}

/// The slowest of those who still send a body, `except` aside, if it is too slow.
fn slowest(seats: &[Seat], except: u64, now: Instant) -> Option<usize> {
    let candidates = seats
        .iter()
        .enumerate()
        .filter(|(_, seat)| seat.id != except && seat.stage == Stage::Sending && seat.held > 0);
    let rated = candidates.filter_map(|(at, seat)| Some((at, seat.pace.rate(seat.held, now)?)));
    rated.filter(|(_, rate)| *rate < LEAST_RATE).min_by_key(|(_, rate)| *rate).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> Peer {
        Peer::of(IpAddr::from([192, 0, 2, last]))
    }

    fn seats(of: &[(u8, Stage, u64)]) -> Vec<Seat> {
        let start = Instant::now();
        let seat = |(i, (last, stage, held)): (usize, &(u8, Stage, u64))| Seat {
            id: i as u64,
            peer: peer(*last),
            since: start + Duration::from_millis(i as u64),
            stage: *stage,
            held: *held,
            pace: Pace::new(start),
        };
        of.iter().enumerate().map(seat).collect()
    }

    const SENDING: Stage = Stage::Sending;
    const WAITING: Stage = Stage::Waiting;

    #[test]
    fn a_network_is_an_ipv4_address_or_half_an_ipv6_one() {
        let of = |text: &str| Peer::of(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("0.0.0.0"), of("::"));
    }

    #[test]
    fn whoever_has_the_most_places_gives_one_up_and_it_is_the_oldest() {
        let free = seats(&[(1, SENDING, 0); 11]);
        assert_eq!(place_for(&free, peer(1)), Some(None));
        let own = seats(&[(1, SENDING, 0); 12]);
        assert_eq!(place_for(&own, peer(1)), Some(Some(0)), "its own oldest");
        assert_eq!(place_for(&own, peer(2)), Some(None));
        let mut full = vec![(3, SENDING, 0)];
        full.extend([(1, SENDING, 0); 12]);
        full.extend([(2, SENDING, 0); 11]);
        assert_eq!(place_for(&seats(&full), peer(9)), Some(Some(1)), "the oldest of peer 1");
    }

    #[test]
    fn who_waits_for_the_model_keeps_his_place() {
        let mut all = vec![(1, WAITING, 9); 6];
        all.extend([(1, SENDING, 0); 6]);
        assert_eq!(place_for(&seats(&all), peer(1)), Some(Some(6)));
        assert_eq!(place_for(&seats(&[(1, WAITING, 0); 12]), peer(1)), None);
    }

    #[test]
    fn memory_is_taken_from_the_slowest_sender_after_its_time() {
        let all = seats(&[
            (1, SENDING, 900),
            (2, WAITING, 1),
            (3, SENDING, 500),
            (4, SENDING, 0),
            (5, SENDING, 1 << 24),
        ]);
        let now = all[0].since;
        assert_eq!(slowest(&all, 9, now), None, "everybody has a second");
        let later = now + Duration::from_secs(3);
        assert_eq!(slowest(&all, 9, later), Some(2));
        assert_eq!(slowest(&all, 2, later), Some(0));
        assert_eq!(slowest(&all[4..], 9, later), None, "fast enough");
    }

    #[test]
    fn who_sends_much_and_then_drips_is_slow() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let second = |n: u64| start + Duration::from_secs(n);
        pace.step(8 << 20, second(1));
        assert_eq!(pace.rate(8 << 20, second(1)), Some(8 << 20));
        pace.step((8 << 20) + 1, second(2));
        assert_eq!(pace.rate((8 << 20) + 1, second(2)), Some(1));
        assert_eq!(pace.rate((8 << 20) + 1, second(5)), Some(0));
    }
}
