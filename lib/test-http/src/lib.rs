//! The HTTP server of the tests. It serves a folder or files from memory, with `Range` (RFC 9110,
//! section 14), counts what it has sent, and answers wrongly where a test asks for a [`Fault`].
//!
//! A dev-dependency only; it depends on nothing of ours, so every crate's tests can use it. What
//! stays with a crate's own tests are servers below HTTP: raw sockets, TLS, one connection for many
//! requests.
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::io::{Read, Write};
//! use test_http::{Fault, Server};
//!
//! let server = Server::of_files(BTreeMap::from([("a.txt".into(), b"hello".to_vec())]))?;
//! server.spoil_times("a.txt", Fault::Status(503), 1);
//! let get = || -> std::io::Result<String> {
//!     let mut stream = std::net::TcpStream::connect(server.address())?;
//!     stream.write_all(b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n")?;
//!     let mut answer = String::new();
//!     stream.read_to_string(&mut answer)?;
//!     Ok(answer)
//! };
//! assert!(get()?.starts_with("HTTP/1.1 503"));
//! assert!(get()?.ends_with("\r\n\r\nhello"));
//! assert_eq!(server.served_of("a.txt").requests, 2);
//! # Ok::<(), std::io::Error>(())
//! ```

mod answer;
mod fault;
mod request;
mod served;
mod server;
mod shared;

pub use fault::Fault;
pub use served::Served;
pub use server::{Server, listen};
