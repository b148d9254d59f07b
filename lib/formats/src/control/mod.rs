//! The protocol of `init`'s control socket (`/run/ferrite/ctl.sock`), as `ctl`, `ota` and users'
//! programs speak it: one request a connection, one line; the answer is a line `ok` or `error TEXT`
//! and, behind `ok`, a body until end of file. docs/architecture.md, "ctl protocol".
//!
//! ```
//! use formats::control::{Request, Verb};
//!
//! let request = Request::parse(b"restart face").unwrap();
//! assert_eq!(request, Request::Restart("face".into()));
//! assert_eq!(request.verb(), Verb::Restart);
//! assert_eq!(request.to_line(), "restart face");
//! ```

pub mod answer;
mod request;
pub mod status;
pub mod verb;

pub use answer::{Health, Vital};
pub use request::{MAX_REQUEST, Request};
pub use status::Status;
pub use verb::Verb;
