//! Fetching from a server that may be slow, broken or hostile.
//!
//! Every wait is bounded, so is every length. What a connection that drops has brought is kept:
//! [`RangeReader`](crate::fetch::range_reader::RangeReader) goes on at the next byte.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tuf::FetchError;
use ureq::config::{AutoHeaderValue, Config};
use ureq::http::{HeaderName, Response, StatusCode, Uri, header};
use ureq::unversioned::resolver::{DefaultResolver, Resolver};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, TcpConnector};
use ureq::{Agent, Body, Proxy, Timeout};

use crate::bounded_file::read_bounded;
use crate::device::Device;
use crate::fetch::credentials::{self, Token, may_send};
use crate::fetch::data_budget::{BudgetConnector, DataBudget, Trigger};
use crate::fetch::deadline::{DeadlineConnector, Timed, drain, within};
use crate::fetch::range_support::RangeSupport;
use crate::fetch::rate_limiter::RateLimiter;
use crate::fetch::redirect::{self, GuardedResolver, Home, HomeResolver};
use crate::fetch::timeouts::Timeouts;
use crate::fetch::tls::{self, TlsConnector};
use crate::settings::Settings;
use crate::{Error, Result};
use crate::{clock, fetch::proxy};

/// No image brings more roots for TLS, in bytes.
const MAX_TLS_ROOTS: u64 = 512 << 10;

/// What came when a whole file was asked for.
pub(super) enum Whole {
    /// The file, and the entity tag that the server gave it.
    Came { bytes: Vec<u8>, etag: Option<String> },
    /// The one that was known.
    Unchanged,
}

/// Talks to one server.
#[derive(Clone, Debug)]
pub struct Client {
    agents: Arc<Agents>,
    pub(crate) timeouts: Timeouts,
    pub(crate) max_rate: Option<u64>,
    pub(crate) ranges: RangeSupport,
    authorization: Option<Arc<Authorization>>,
    budget: Option<Arc<DataBudget>>,
    /// Seconds for which a server last asked to be left alone; 0: it did not.
    busy: Arc<AtomicU64>,
}

/// Who makes connections.
#[derive(Debug)]
struct Agents {
    /// To who is named.
    known: Agent,
    /// To where a redirection led.
    elsewhere: Agent,
    /// Where who is named was found.
    home: Home,
}

/// A token and the repository it is for.
#[derive(Clone, Debug)]
struct Authorization {
    token: Token,
    home: Uri,
    plain: bool,
}

impl Authorization {
    fn value(&self, url: &str) -> Option<String> {
        let to: Uri = url.parse().ok()?;
        may_send(&self.home, &to, self.plain).then(|| self.token.header())
    }
}

fn config(timeouts: &Timeouts, proxy: Option<Proxy>) -> Config {
    Agent::config_builder()
        .http_status_as_error(false)
        .proxy(proxy)
        // They are followed here, where it is known what may be asked.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_response_header_size(16 << 10)
        .input_buffer_size(64 << 10)
        .max_idle_connections(1)
        .timeout_connect(Some(timeouts.connect))
        .timeout_resolve(Some(timeouts.connect))
        .timeout_recv_response(Some(timeouts.answer))
        .timeout_per_read(Some(timeouts.idle))
        .timeout_per_write(Some(timeouts.idle))
        .user_agent("ferrite-ota")
        .accept_encoding("identity")
        .accept(AutoHeaderValue::None)
        .build()
}

/// TLS, when this image has roots; an error when `url` needs some and there are none.
fn tls(device: &Device, home: &Uri, url: &str) -> Result<Option<TlsConnector>> {
    let path = device.tls_roots();
    let roots = match read_bounded(&path, MAX_TLS_ROOTS) {
        Ok(roots) => roots,
        Err(_) if !path.exists() && url.starts_with("https:") => {
            return Err(Error::failed(format!(
                "{url}: this image has no roots for TLS; name them in its file ([update.tls] roots)"
            )));
        }
        Err(_) if !path.exists() => return Ok(None),
        Err(error) => return Err(error),
    };
    let identity = credentials::identity(device)?;
    let lower_bound = clock::network(device).unwrap_or(0);
    TlsConnector::new(&roots, identity.as_ref(), home.host().unwrap_or_default(), lower_bound)
        .map(Some)
        .map_err(Error::failed)
}

impl Client {
    /// A client for `http://` URLs, with nothing to show. `max_rate`: bytes a second that a
    /// download may take of the link.
    pub fn new(timeouts: Timeouts, max_rate: Option<u64>) -> Client {
        let tcp = || ().chain(TcpConnector::default());
        let resolvers = (DefaultResolver::default(), DefaultResolver::default());
        Client { max_rate, ..Client::of(timeouts, None, (tcp(), tcp()), resolvers) }
    }

    /// A client whose connections `connector` makes: for who plays the server without a socket.
    pub fn over<R: Resolver + Clone>(
        timeouts: Timeouts,
        connector: impl Connector + Clone,
        resolver: R,
    ) -> Client {
        let resolvers = (resolver.clone(), resolver);
        Client::of(timeouts, None, (connector.clone(), connector), resolvers)
    }

    /// Two of each: one for who is named, one for where a redirection led.
    fn of<R: Resolver>(
        timeouts: Timeouts,
        proxy: Option<Proxy>,
        connectors: (impl Connector, impl Connector),
        resolvers: (R, R),
    ) -> Client {
        let (home, config) = (Home::default(), config(&timeouts, proxy));
        let known = HomeResolver { inner: resolvers.0, home: home.clone() };
        let guarded = GuardedResolver { inner: resolvers.1, home: home.clone() };
        let known = Agent::with_parts(config.clone(), connectors.0.chain(DeadlineConnector), known);
        let elsewhere = Agent::with_parts(config, connectors.1.chain(DeadlineConnector), guarded);
        Client {
            agents: Arc::new(Agents { known, elsewhere, home }),
            timeouts,
            max_rate: None,
            authorization: None,
            budget: None,
            busy: Arc::default(),
            ranges: RangeSupport::default(),
        }
    }

    /// The device's client for `url`: through its proxy, with its TLS roots and what shows who it
    /// is. Those secrets are for the repository of the settings, whatever `url` is.
    pub fn of_device(
        device: &Device,
        settings: &Settings,
        timeouts: Timeouts,
        url: &str,
        trigger: Trigger,
    ) -> Result<Client> {
        check_url(url)?;
        let variable = |name: &str| std::env::var(name).ok();
        let proxy = proxy::choose(settings.proxy.as_deref(), url, &variable)?;
        let home: Uri = settings.url.parse().map_err(|_| not_a_url(&settings.url))?;
        let authorization = Token::load(device)?.map(|token| {
            Arc::new(Authorization { token, home: home.clone(), plain: settings.token_over_http })
        });
        let budget = DataBudget::open(device, settings, trigger);
        let sockets = || {
            ().chain(ConnectProxyConnector::default())
                .chain(TcpConnector::default())
                .chain(BudgetConnector(budget.clone()))
        };
        let resolvers = (DefaultResolver::default(), DefaultResolver::default());
        let client = match tls(device, &home, url)? {
            Some(tls) => {
                let secured = || sockets().chain(tls.clone());
                Client::of(timeouts, proxy, (secured(), secured()), resolvers)
            }
            None => Client::of(timeouts, proxy, (sockets(), sockets()), resolvers),
        };
        let max_rate = settings.max_bytes_per_second;
        Ok(Client { max_rate, authorization, budget, ..client })
    }

    /// The value of the header that shows the token, if that may be sent to `url`.
    fn authorization(&self, url: &str) -> Option<String> {
        self.authorization.as_ref()?.value(url)
    }

    /// `range`: the value of a `Range` header.
    pub(crate) fn get(
        &self,
        url: &str,
        range: Option<&str>,
    ) -> std::result::Result<Response<Body>, String> {
        let range = range.map(|range| (header::RANGE, range));
        self.call(url, range.as_slice())
    }

    /// Posts JSON; the answer's status counts, its body does not, and where it redirects to nothing
    /// is posted.
    pub(crate) fn post(&self, url: &str, body: &[u8]) -> std::result::Result<(), String> {
        let mut request = self.agents.known.post(url).content_type("application/json");
        if let Some(value) = self.authorization(url) {
            request = request.header(header::AUTHORIZATION, value);
        }
        let response = self.limited(|| request.send(body))?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(answered(status)),
        }
    }

    /// A connection, a request and the head of its answer, all in a bounded time.
    fn limited(
        &self,
        work: impl FnOnce() -> std::result::Result<Response<Body>, ureq::Error>,
    ) -> std::result::Result<Response<Body>, String> {
        within(self.timeouts.exchange(), Timeout::RecvResponse, work)
            .map_err(|error| self.explain(&error))
    }

    /// Asks `url`, with the token if that may be sent there, and wherever it redirects to, without.
    fn call(
        &self,
        url: &str,
        headers: &[(HeaderName, &str)],
    ) -> std::result::Result<Response<Body>, String> {
        let Agents { known, elsewhere, home } = &*self.agents;
        home.begin(url);
        let mut at = url.to_string();
        for hop in 0..=redirect::MOST {
            let agent = match redirect::same_server(&at, url) {
                true => known,
                false => {
                    home.check(&at)?;
                    elsewhere
                }
            };
            let mut request = agent.get(&at);
            for (name, value) in headers {
                request = request.header(name, *value);
            }
            if let Some(value) = self.authorization(url).filter(|_| hop == 0) {
                request = request.header(header::AUTHORIZATION, value);
            }
            let response = self.limited(|| request.call())?;
            let Some(location) = redirection(&response) else {
                self.busy.store(wish(&response), Ordering::Relaxed);
                return Ok(response);
            };
            at = redirect::follow(&at, &location)?;
            drain(response.into_body().into_reader());
        }
        Err(format!("it redirects more than {} times", redirect::MOST))
    }

    /// For how long the server wants to be left alone, as far as it said.
    pub(crate) fn asked_to_wait(&self) -> Duration {
        Duration::from_secs(self.busy.load(Ordering::Relaxed))
    }

    /// Why nothing more may be fetched now, if so.
    pub(crate) fn barred(&self) -> Option<String> {
        self.budget.as_ref()?.barred()
    }

    /// The failure, with the server's wish.
    pub(crate) fn later(&self, error: Error) -> Error {
        match (error, self.asked_to_wait()) {
            (Error::Failed(sentence), after) if !after.is_zero() => {
                Error::Later { sentence, after }
            }
            (error, _) => error,
        }
    }

    /// A whole file of at most `max` bytes, or that it is still the one with the entity tag `known`.
    pub(super) fn whole(
        &self,
        url: &str,
        max: u64,
        known: Option<&str>,
    ) -> std::result::Result<Whole, FetchError> {
        let condition = known.map(|known| (header::IF_NONE_MATCH, known));
        let response = self.call(url, condition.as_slice()).map_err(FetchError::Failed)?;
        let (head, body) = response.into_parts();
        match head.status {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if known.is_some() => return Ok(Whole::Unchanged),
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                drain(body.into_reader());
                return Err(FetchError::NotFound);
            }
            StatusCode::FORBIDDEN => {
                drain(body.into_reader());
                return Err(FetchError::Forbidden);
            }
            other => return Err(FetchError::Failed(answered(other))),
        }
        let etag = head.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
        let bytes = self.bounded(body, max)?;
        Ok(Whole::Came { bytes, etag: etag.map(String::from) })
    }

    fn bounded(&self, body: Body, max: u64) -> std::result::Result<Vec<u8>, FetchError> {
        let mut limiter = RateLimiter::new(&self.timeouts, None);
        let mut reader = Timed::new(body.into_reader(), self.timeouts.idle);
        let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let begun = Instant::now();
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(bytes),
                Ok(length) => {
                    bytes.extend_from_slice(&buffer[..length]);
                    limiter.passed(length, begun.elapsed()).map_err(FetchError::Failed)?;
                    if bytes.len() as u64 > max {
                        return Err(FetchError::TooLarge(max));
                    }
                }
                Err(error) => return Err(FetchError::Failed(self.explain_io(error))),
            }
        }
    }

    fn explain(&self, error: &ureq::Error) -> String {
        match error {
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                format!("no connection within {} s", seconds(self.timeouts.connect))
            }
            ureq::Error::Timeout(ureq::Timeout::RecvResponse) => {
                format!("no answer within {} s", seconds(self.timeouts.answer))
            }
            ureq::Error::Timeout(_) => {
                format!("nothing came for {} s", seconds(self.timeouts.idle))
            }
            ureq::Error::HostNotFound => "the server's name is not known".into(),
            ureq::Error::Io(error) => {
                one_line(&tls::explain(error).unwrap_or_else(|| error.to_string()))
            }
            ureq::Error::Other(error) => one_line(&error.to_string()),
            ureq::Error::Protocol(_) => "the answer is not HTTP".into(),
            other => one_line(&other.to_string()),
        }
    }

    pub(crate) fn explain_io(&self, error: io::Error) -> String {
        self.explain(&ureq::Error::from(error))
    }
}

/// Where an answer redirects to, if it does.
fn redirection(response: &Response<Body>) -> Option<String> {
    match response.status().as_u16() {
        301 | 302 | 303 | 307 | 308 => {
            let location = response.headers().get(header::LOCATION)?;
            // What is no text is no URL either, and is refused as such.
            Some(location.to_str().unwrap_or("\n").to_string())
        }
        _ => None,
    }
}

/// For how many seconds the server wants to be left alone; 0 when it does not say.
fn wish(response: &Response<Body>) -> u64 {
    let busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
    if !busy.contains(&response.status()) {
        return 0;
    }
    // The form with a date needs a clock that both sides share.
    let after = response.headers().get(header::RETRY_AFTER);
    after.and_then(|value| value.to_str().ok()?.trim().parse().ok()).unwrap_or(0)
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}

/// What a status that is no answer means, for people.
pub(crate) fn answered(status: StatusCode) -> String {
    format!("the server answered {}", status.as_u16())
}

/// What others wrote may hold line feeds; an error is one line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

/// Refuses what this client cannot fetch.
pub fn check_url(url: &str) -> Result<()> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.is_empty() && url.bytes().all(|b| b.is_ascii_graphic()) => Ok(()),
        _ => Err(not_a_url(url)),
    }
}

fn not_a_url(url: &str) -> Error {
    Error::failed(format!("{url}: not an http:// or https:// URL"))
}
