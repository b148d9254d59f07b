//! The DHCP client's state machine (RFC 2131, section 4.4): what to send when, and what an answer
//! means. No sockets, no clock.

use super::dhcp_message::{Lease, Reply, Request};

/// First and longest wait for an answer while there is no lease, in milliseconds.
const FIRST_WAIT: u64 = 1_000;
const LONGEST_WAIT: u64 = 64_000;
/// So often an offer is asked for before starting anew.
const SELECT_TRIES: u32 = 4;
/// Shortest time between two renewals' requests (section 4.4.5).
const RENEW_WAIT: u64 = 60_000;

/// Where the client is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Discovering,
    Selecting(Lease),
    Bound,
    Renewing,
    Rebinding,
}

/// How a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// To everybody on the link.
    Broadcast,
    /// To the server that gave the lease.
    Unicast,
}

/// What has to be done after an answer or a deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this.
    Send(Request, Transport),
    /// Use this lease.
    Apply(Lease),
    /// The lease is over: take the address away.
    Remove,
}

/// One interface's client; times in milliseconds.
#[derive(Clone, Debug)]
pub struct Client {
    /// Number of the transaction; new for every one.
    pub transaction: u32,
    phase: Phase,
    lease: Option<Lease>,
    /// When the lease began.
    since: u64,
    tries: u32,
    deadline: u64,
}

impl Client {
    /// A client that has nothing yet and acts at once.
    pub fn new(transaction: u32, now: u64) -> Client {
        Client {
            transaction,
            phase: Phase::Discovering,
            lease: None,
            since: now,
            tries: 0,
            deadline: now,
        }
    }

    /// When [`Client::timer`] has something to do.
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Whether answers are awaited.
    pub fn listens(&self) -> bool {
        self.phase != Phase::Bound
    }

    /// The cable was plugged in again: this may be another network.
    pub fn start_anew(&mut self, now: u64) {
        self.phase = Phase::Discovering;
        self.tries = 0;
        self.deadline = now;
        self.transaction = self.transaction.wrapping_add(1);
    }

    /// The deadline has passed.
    pub fn timer(&mut self, now: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(lease) = self.lease.as_ref()
            && now >= self.since + u64::from(lease.lasts) * 1000
        {
            self.lease = None;
            actions.push(Action::Remove);
            self.start_anew(now);
        }
        match (&self.phase, &self.lease) {
            (Phase::Bound, Some(_)) => {
                self.phase = Phase::Renewing;
                self.transaction = self.transaction.wrapping_add(1);
                actions.extend(self.renew(now));
            }
            (Phase::Renewing | Phase::Rebinding, Some(_)) => actions.extend(self.renew(now)),
            (Phase::Selecting(offer), _) if self.tries < SELECT_TRIES => {
                let (address, server) = (offer.address, offer.server);
                self.wait(now);
                actions
                    .push(Action::Send(Request::Select { address, server }, Transport::Broadcast));
            }
            (Phase::Selecting(_), _) => {
                self.start_anew(now);
                self.wait(now);
                actions.push(Action::Send(Request::Discover, Transport::Broadcast));
            }
            _ => {
                self.phase = Phase::Discovering;
                self.wait(now);
                actions.push(Action::Send(Request::Discover, Transport::Broadcast));
            }
        }
        actions
    }

    /// A server answered.
    pub fn reply(&mut self, reply: Reply, now: u64) -> Vec<Action> {
        match (&self.phase, reply) {
            (Phase::Discovering, Reply::Offer(offer)) => {
                let (address, server) = (offer.address, offer.server);
                self.phase = Phase::Selecting(offer);
                self.tries = 0;
                self.wait(now);
                vec![Action::Send(Request::Select { address, server }, Transport::Broadcast)]
            }
            (Phase::Selecting(offer), Reply::Ack(lease)) if lease.server == offer.server => {
                self.bind(lease, now)
            }
            (Phase::Renewing | Phase::Rebinding, Reply::Ack(lease)) => self.bind(lease, now),
            (Phase::Selecting(_), Reply::Nak) => {
                self.start_anew(now + FIRST_WAIT);
                Vec::new()
            }
            (Phase::Renewing | Phase::Rebinding, Reply::Nak) => {
                self.lease = None;
                self.start_anew(now);
                vec![Action::Remove]
            }
            _ => Vec::new(),
        }
    }

    fn bind(&mut self, lease: Lease, now: u64) -> Vec<Action> {
        self.phase = Phase::Bound;
        self.since = now;
        self.tries = 0;
        self.deadline = now + u64::from(lease.renew) * 1000;
        self.lease = Some(lease.clone());
        vec![Action::Apply(lease)]
    }

    /// Waits for an answer twice as long as the last time.
    fn wait(&mut self, now: u64) {
        self.deadline = now + (FIRST_WAIT << self.tries.min(6)).min(LONGEST_WAIT);
        self.tries = self.tries.saturating_add(1);
    }

    /// Half of the time left is waited before the next request, but a minute at least.
    fn renew(&mut self, now: u64) -> Option<Action> {
        let lease = self.lease.as_ref()?;
        let rebind = self.since + u64::from(lease.rebind) * 1000;
        let end = self.since + u64::from(lease.lasts) * 1000;
        let (until, transport) =
            if now < rebind { (rebind, Transport::Unicast) } else { (end, Transport::Broadcast) };
        self.phase =
            if transport == Transport::Unicast { Phase::Renewing } else { Phase::Rebinding };
        self.deadline =
            (now + (until.saturating_sub(now) / 2).max(RENEW_WAIT)).min(until.max(now + 1));
        Some(Action::Send(Request::Renew { address: lease.address }, transport))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn lease() -> Lease {
        Lease {
            address: Ipv4Addr::new(10, 0, 2, 15),
            prefix: 24,
            router: None,
            name_servers: Vec::new(),
            time_servers: Vec::new(),
            domain: String::new(),
            server: Ipv4Addr::new(10, 0, 2, 2),
            lasts: 3_600,
            renew: 1_800,
            rebind: 3_150,
        }
    }

    fn bound() -> Client {
        let mut client = Client::new(1, 0);
        client.timer(0);
        client.reply(Reply::Offer(lease()), 10);
        assert_eq!(client.reply(Reply::Ack(lease()), 20), [Action::Apply(lease())]);
        client
    }

    #[test]
    fn discover_offer_request_ack() {
        let mut client = Client::new(1, 0);
        assert_eq!(client.timer(0), [Action::Send(Request::Discover, Transport::Broadcast)]);
        let (address, server) = (lease().address, lease().server);
        assert_eq!(
            client.reply(Reply::Offer(lease()), 10),
            [Action::Send(Request::Select { address, server }, Transport::Broadcast)]
        );
        assert_eq!(client.reply(Reply::Ack(lease()), 20), [Action::Apply(lease())]);
        assert!(!client.listens());
        assert_eq!(client.deadline(), 20 + 1_800_000);
    }

    #[test]
    fn renews_with_the_server_then_rebinds_with_anybody_then_gives_the_address_up() {
        let mut client = bound();
        let renew = Request::Renew { address: lease().address };
        assert_eq!(client.timer(1_800_020), [Action::Send(renew, Transport::Unicast)]);
        let mut transports = Vec::new();
        loop {
            let actions = client.timer(client.deadline());
            if actions.contains(&Action::Remove) {
                break;
            }
            let [Action::Send(_, transport)] = actions[..] else { panic!("{actions:?}") };
            transports.push(transport);
        }
        assert!(transports.contains(&Transport::Broadcast));
        let first =
            transports.iter().position(|transport| *transport == Transport::Broadcast).unwrap();
        assert!(transports[first..].iter().all(|transport| *transport == Transport::Broadcast));
        assert!(transports.len() < 40, "{} requests", transports.len());
    }

    #[test]
    fn a_refused_renewal_gives_the_address_up_at_once() {
        let mut client = bound();
        client.timer(1_800_020);
        assert_eq!(client.reply(Reply::Nak, 1_800_030), [Action::Remove]);
        assert_eq!(
            client.timer(client.deadline()),
            [Action::Send(Request::Discover, Transport::Broadcast)]
        );
    }

    #[test]
    fn an_unasked_for_answer_changes_nothing() {
        let mut client = bound();
        let before = client.deadline();
        assert!(client.reply(Reply::Nak, 30).is_empty());
        assert!(client.reply(Reply::Offer(lease()), 30).is_empty());
        assert_eq!(client.deadline(), before);
    }

    proptest! {
        /// Whatever answers come, the next deadline lies ahead once the timer was served, so that
        /// the event loop can never spin.
        #[test]
        fn time_goes_on(answers in proptest::collection::vec(0u8..5, 1..100)) {
            let mut client = Client::new(1, 0);
            let mut now = 0;
            for answer in answers {
                match answer {
                    0 => { client.reply(Reply::Offer(lease()), now); }
                    1 => { client.reply(Reply::Ack(lease()), now); }
                    2 => { client.reply(Reply::Nak, now); }
                    _ => {
                        now = now.max(client.deadline());
                        client.timer(now);
                        prop_assert!(client.deadline() > now);
                    }
                }
            }
        }
    }
}
