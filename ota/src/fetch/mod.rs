//! Fetching: from a server that may be slow, broken or hostile, or from a file that somebody brought.
//!
//! [`http`] is the client, [`remote`] a repository behind it, [`range_reader`] makes one stream out of as many requests and connections
//! as it takes, [`resource`] is a file at either end. Every wait and every length is bounded
//! ([`timeouts`], [`deadline`]), metered links have a [`data_budget`], and what came once is kept in
//! the [`download_cache`].

pub mod bundle;
pub mod byteranges;
pub mod credentials;
pub mod data_budget;
mod deadline;
pub(crate) mod download_cache;
mod etag;
pub mod http;
pub mod proxy;
pub mod range_reader;
mod range_support;
mod rate_limiter;
mod redirect;
pub mod remote;
pub mod resource;
pub mod timeouts;
pub mod tls;
