//! Fetching by plain HTTP, with the crate and the settings of `ota`.

use std::io::Read;
use std::time::Duration;

use tuf::{Fetch, FetchError, METADATA_DIR, TARGETS_DIR};
use ureq::Agent;
use ureq::http::StatusCode;

/// How long to wait for a connection, an answer or a next byte.
const PATIENCE: Duration = Duration::from_secs(20);

/// A repository whose metadata and targets lie under two URLs.
pub struct Http {
    agent: Agent,
    metadata: String,
    targets: Option<String>,
}

impl Http {
    /// `targets` may be missing as long as no target is fetched.
    pub fn new(metadata: &str, targets: Option<&str>) -> Http {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(4)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .user_agent("ferrite-tuf-conformance-client")
            .accept_encoding("identity")
            .build()
            .new_agent();
        let base = |url: &str| url.trim_end_matches('/').to_string();
        Http { agent, metadata: base(metadata), targets: targets.map(base) }
    }

    fn url(&self, path: &str) -> Option<String> {
        let (folder, file) = path.split_once('/')?;
        match folder {
            METADATA_DIR => Some(format!("{}/{file}", self.metadata)),
            TARGETS_DIR => Some(format!("{}/{file}", self.targets.as_ref()?)),
            _ => None,
        }
    }
}

impl Fetch for Http {
    fn fetch(&mut self, path: &str, max: u64) -> Result<Vec<u8>, FetchError> {
        let failed = |error: &dyn std::fmt::Display| FetchError::Failed(error.to_string());
        let url = self.url(path).ok_or_else(|| failed(&"no URL for it was given"))?;
        let response = self.agent.get(&url).call().map_err(|error| failed(&error))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => return Err(FetchError::NotFound),
            other => return Err(failed(&format!("the server answered {}", other.as_u16()))),
        }
        let mut bytes = Vec::new();
        let mut body = response.into_body().into_reader().take(max.saturating_add(1));
        body.read_to_end(&mut bytes).map_err(|error| failed(&error))?;
        if bytes.len() as u64 > max {
            return Err(FetchError::TooLarge(max));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_go_below_the_url_of_their_folder() {
        let http = Http::new("http://h/x/metadata/", Some("http://h/y"));
        assert_eq!(
            http.url("metadata/1.%2Fr.json").as_deref(),
            Some("http://h/x/metadata/1.%2Fr.json")
        );
        assert_eq!(http.url("targets/a/b").as_deref(), Some("http://h/y/a/b"));
        assert_eq!(http.url("elsewhere/a"), None);
        assert_eq!(Http::new("http://h", None).url("targets/a"), None);
    }
}
