//! The demo's photograph: what the model says of it, on the console and by HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

/// The photograph, of one face.
pub const PICTURE: &[u8] = include_bytes!("../../../demo/face/golden.png");
/// Another score than the model has for it, in what stands beside the model.
pub const WRONG: &[(&str, &str)] = &[("\"score\": 0.899653", "\"score\": 0.199653")];
/// How long an answer over HTTP may take: some inferences may be under way.
const PATIENCE: Duration = Duration::from_secs(120);

/// The faces of a result line, once there is one.
fn faces(line: &str) -> Result<Vec<Value>> {
    let json = line.find('{').map(|start| &line[start..]).context("a result line")?;
    let result: Value = serde_json::from_str(json).with_context(|| line.to_owned())?;
    let faces = result["detections"].as_array().or(result["faces"].as_array());
    faces.cloned().with_context(|| format!("no list of faces in {line}"))
}

/// The line has one face, and a score of more than a half.
pub fn assert_one_face(line: &str) -> Result<()> {
    let faces = faces(line)?;
    assert_eq!(faces.len(), 1, "{line}");
    let score = faces[0]["score"].as_f64().with_context(|| line.to_owned())?;
    assert!(score > 0.5 && score <= 1.0, "{line}");
    Ok(())
}

/// Sends a picture to the runner's port; gives the answer's head and body.
pub fn post(port: u16, path: &str, body: &[u8]) -> Result<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("the forwarded port")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len())?;
    stream.write_all(body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    Ok((head.to_owned(), body.to_owned()))
}
