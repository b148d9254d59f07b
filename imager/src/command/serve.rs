//! `imager serve`: a repository over HTTP, for development.
//!
//! It writes nothing, so Ctrl-C may end it at any moment.

use std::io::{self, Write};
use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use publisher::serve::serve;

/// Serves a folder over HTTP, with Range requests. For development.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// The folder, such as the repository that `imager publish` wrote.
    #[arg(long, value_name = "DIR")]
    repo: PathBuf,
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,
}

/// Serves until the process is ended.
pub fn run(args: ServeArgs) -> Result<()> {
    if !args.repo.is_dir() {
        bail!("{} is not a folder; `imager publish` makes repositories", args.repo.display());
    }
    let root = args.repo.canonicalize().with_context(|| args.repo.display().to_string())?;
    let listener = TcpListener::bind(&args.listen)
        .with_context(|| format!("cannot listen on {}; choose another --listen", args.listen))?;
    let address = listener.local_addr().context("the listening socket has no address")?;
    say(&format!("serving {} on http://{address}/ (Ctrl-C ends it)", args.repo.display()));
    serve(&listener, root, say);
    Ok(())
}

/// Standard output may be a pipe that its reader closed; the server goes on.
fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}
